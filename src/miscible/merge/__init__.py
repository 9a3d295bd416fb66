"""Merging: recipes, methods, and the engine.

The package is a function too: ``miscible.merge(recipe)`` is `miscible.merge.api.merge`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from miscible.merge.api import merge

        return merge(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
