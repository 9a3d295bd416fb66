"""The probes: arrays in, scores of held-out rows out; no model or text is known here."""
