"""Charts of a report; each module makes one section's."""
