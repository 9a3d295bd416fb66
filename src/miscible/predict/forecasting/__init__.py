"""From a trained predictor to advice on merges that were not made: forecasts, or abstentions."""
