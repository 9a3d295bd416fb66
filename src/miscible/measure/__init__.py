"""Measuring: N fine-tunes of one base, all pairs, each checkpoint read once.

The package is a function too: ``miscible.measure(base, models)`` is `miscible.measure.api.measure`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from miscible.measure.api import measure

        return measure(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
