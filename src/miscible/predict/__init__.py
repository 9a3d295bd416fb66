"""Predicting: metrics of unmerged pairs and outcomes of merged ones -> how a merge will score.

`tables` reads both into `pairs`; a `contract.Predictor` (one file each) is fitted on them; it is
validated on tasks that it has not seen, beside baselines and a null.

The package is a function too: ``miscible.predict(predictor, base, models)`` is
`miscible.predict.forecasting.api.forecast`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from miscible.predict.forecasting.api import forecast

        return forecast(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
