"""Measuring: N fine-tunes of one base, all pairs, each checkpoint read once.

The package is a function too: ``miscible.measure(base, models)`` is `miscible.measure.api.measure`.
`Calibration` says over what models are run.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from miscible.measure.api import measure

        return measure(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "Calibration":
            from miscible.measure.calibrate import Calibration

            return Calibration
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


sys.modules[__name__].__class__ = _CallablePackage
