"""What a predictor rests on: fingerprints of methods, their stability, and ablations."""
