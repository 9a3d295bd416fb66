"""Predicting: metrics of unmerged pairs and outcomes of merged ones -> how a merge will score.

`tables` reads both into `pairs`; a `contract.Predictor` (one file each) is fitted on them; it is
validated on tasks that it has not seen, beside baselines and a null.
"""
