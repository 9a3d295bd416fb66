"""The modules that register miscible's own predictors; importing this one imports them."""

from __future__ import annotations

from importlib import import_module

for _module in ("effects.model", "lasso", "elastic_net", "ridge", "least_squares", "pearson"):
    import_module(f"miscible.predict.{_module}")
