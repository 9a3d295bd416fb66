"""From texts to pooled hidden states of every layer, each text once a model."""
