"""How alike the states of two models are, from arrays alone, with intervals."""
