"""miscible: will fine-tuned models merge, how should they, and what did the merge do?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miscible.measure.api import measure
    from miscible.merge.api import merge
    from miscible.predict.forecasting.api import forecast as predict

# Read by OpenMP when torch is loaded. Threads that spin while they wait slow a machine with other
# work to a crawl (measured: eightfold on two busy cores); on an idle one it makes no difference.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
__all__ = ["__version__", "measure", "merge", "predict"]

if not TYPE_CHECKING:  # a type checker that saw this would believe in any name

    def __getattr__(name: str) -> object:
        if name in ("merge", "measure", "predict"):
            from importlib import import_module

            return import_module(f"miscible.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
