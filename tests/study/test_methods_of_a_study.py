"""A study can name every method that two parents and its own parameters suffice for."""

from __future__ import annotations

from pathlib import Path

import pytest

from miscible.errors import MiscibleError
from miscible.merge.contract import METHODS
from miscible.merge.declaration import REQUIRED
from miscible.merge.virtual import VirtualCheckpoint
from study.small import open_small_study


def usable(name: str) -> bool:
    method = METHODS.get(name)
    required = {p.name for p in method.parameters.values() if p.default is REQUIRED}
    fits = method.least <= 2 and (method.most or 2) >= 2
    return fits and method.needs is None and required <= {"weight", "density", "t"}


@pytest.mark.parametrize("name", [name for name in METHODS.names() if usable(name)])
def test_every_method(name: str, tmp_path: Path) -> None:
    study = open_small_study(tmp_path, merges=[{"method": name}])
    checkpoint = study.plan.models[-1].checkpoint
    assert isinstance(checkpoint, VirtualCheckpoint)
    assert checkpoint.read(next(iter(checkpoint.tensors))).isfinite().all()
    assert not checkpoint.plan.partial


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"method": "karcher", "dose": 0.5}, "karcher has no weights, and so no dose"),
        ({"method": "fisher"}, "needs fisher statistics"),
        ({"method": "passthrough"}, "takes exactly 1"),
    ],
)
def test_what_a_study_cannot_do(entry: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(MiscibleError, match=message):
        _ = open_small_study(tmp_path, merges=[entry]).plan
