"""Every error that miscible raises on purpose.

::

    MiscibleError                 a message that says what, where, and what to do; exit code 2
    ├── UnknownNameError          a name that is not registered ("did you mean ...?")
    ├── SpecError                 a YAML or JSON document that is not what it should be
    │   └── RecipeError           a merge recipe that cannot be carried out
    ├── ModelReferenceError       a model reference that names nothing
    │   └── RefusedError          what the Hub has and does not give (in `miscible.models.remote`)
    ├── CheckpointError           a model folder or file that is missing, damaged or refused
    │   └── AdapterError          a LoRA adapter that is damaged, refused or of another base
    ├── IncompatibleModelsError   models whose tensors, configs or tokenizers do not fit together
    ├── DatasetError              a task or probing data set that cannot be read
    └── StoreError                a result store that is damaged or cannot be written

Anything else that escapes is a bug in miscible, and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MiscibleError(Exception):
    """An error that a user can act on.

    Args:
        what: what is wrong, in one sentence.
        where: the model, tensor, file, or line that it concerns.
        fix: what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what}" + (f" {self.fix}" if self.fix else "")


class UnknownNameError(MiscibleError):
    """A name that no registered object or declared key bears."""


class SpecError(MiscibleError):
    """A YAML or JSON document that is not what it should be."""


class RecipeError(SpecError):
    """A merge recipe that cannot be carried out."""


class ModelReferenceError(MiscibleError):
    """A model reference that names nothing that can be reached."""


class CheckpointError(MiscibleError):
    """A model folder or file that is missing, damaged or refused."""


class AdapterError(CheckpointError):
    """A LoRA adapter that is damaged, refused, or made for another base."""


class IncompatibleModelsError(MiscibleError):
    """Models whose tensors, configurations or tokenizers do not fit together."""


class DatasetError(MiscibleError):
    """A task or a probing data set that cannot be read."""


class StoreError(MiscibleError):
    """A result store that is damaged or cannot be written."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return advice about a mistyped *name*: the nearest known name, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known: {', '.join(names)}." if names else "None is known."
