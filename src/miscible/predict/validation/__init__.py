"""How well a predictor does on tasks that it has not seen, beside baselines and a null."""
