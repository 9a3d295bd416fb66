"""How a predictor is validated."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from miscible.errors import MiscibleError
from miscible.predict.validation.calibration import LEVEL

K = 5
"""Tasks that are held out at once, if it is not said how many."""


@dataclass(frozen=True)
class Settings:
    """How a predictor is validated.

    Attributes:
        loto: whether to leave one task out.
        k: tasks to leave out at once, None not to do so.
        draws: sets of k tasks.
        null: relabelled tables that scores are compared with.
        bootstrap: samples of tasks for intervals of scores.
        seeds: fits with different seeds, over which scores are averaged and their spread is told.
        seed: of everything drawn.
        level: coverage that predictive intervals are made for.
    """

    loto: bool = True
    k: int | None = K
    draws: int = 40
    null: int = 199
    bootstrap: int = 1000
    seeds: int = 3
    seed: int = 0
    level: float = LEVEL

    def __post_init__(self) -> None:
        for name, least in (("draws", 1), ("null", 0), ("bootstrap", 0), ("seeds", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise MiscibleError(f"{name} must be {least} or more. Got {getattr(self, name)!r}.")
        if not 0 < self.level < 1:
            raise MiscibleError(f"level must be between 0 and 1. Got {self.level!r}.")

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def parse_validation(text: str) -> tuple[bool, int | None]:
    """Return what ``loto,lkto:5`` asks for: whether to leave one task out, and k or None.

    Raises:
        MiscibleError: if it asks for anything else.
    """
    loto, k = False, None
    for part in (part.strip() for part in text.split(",")):
        if part == "loto":
            loto = True
        elif (found := re.fullmatch(r"lkto(?::(\d{1,4}))?", part)) is not None:
            k = int(found[1]) if found[1] else K
        else:
            raise MiscibleError(
                f"there is no validation named {part!r}.", fix="Use loto, lkto:5, or loto,lkto:5."
            )
    return loto, k
