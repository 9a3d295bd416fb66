"""Decompositions are kept by content, checked when they are read, and never trusted otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from measure.synthetic import base_state, children
from miscible.measure import spectrum
from miscible.measure.api import measure
from miscible.measure.spectrum import Spectrum, ends
from miscible.measure.spectrum_cache import SpectrumCache

MATRICES = 7


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of decompositions that were made, in its first place."""
    made = [0]

    def counted(square: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        made[0] += 1
        return ends(square)

    monkeypatch.setattr(spectrum, "ends", counted)
    return made


def test_one_more_model_costs_its_own_decompositions(tmp_path: Path, count: list[int]) -> None:
    base = base_state()
    models = children(base, 4)
    first = {name: models[name] for name in ("m0", "m1", "m2")}
    measure(base, first, cache=tmp_path)
    assert count[0] == 3 * MATRICES
    cached = measure(base, models, cache=tmp_path)
    assert count[0] == 4 * MATRICES
    again = measure(base, {"other name": models["m0"], "m3": models["m3"]}, cache=tmp_path)
    assert count[0] == 4 * MATRICES
    fresh = measure(base, models, cache=False)
    for one, two in zip(cached.pairs, fresh.pairs, strict=True):
        assert one == two, "what is kept must be the very numbers"
    assert again.pairs[0].metrics == cached.pairs[2].metrics


def test_another_base_is_another_entry(tmp_path: Path, count: list[int]) -> None:
    base = base_state()
    models = children(base, 2)
    measure(base, models, cache=tmp_path)
    base["layers.0.mlp.up_proj.weight"] = base["layers.0.mlp.up_proj.weight"] * 1.01
    measure(base, models, cache=tmp_path)
    assert count[0] == 2 * MATRICES + 2


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_damaged_entries_are_made_again(tmp_path: Path, count: list[int], damage: str) -> None:
    base = base_state()
    models = children(base, 2)
    sound = measure(base, models, cache=tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == 2 * MATRICES
    content = files[0].read_bytes()
    other = {"flip": content[:-1] + bytes([content[-1] ^ 1]), "cut": content[: len(content) // 2],
             "empty": b"", "other": b"not a decomposition" * 9}[damage]  # fmt: skip
    files[0].write_bytes(other)
    count[0] = 0
    assert measure(base, models, cache=tmp_path) == sound
    assert count[0] == 1
    assert files[0].read_bytes() == content


def test_an_entry_of_another_shape_is_not_believed(tmp_path: Path) -> None:
    cache = SpectrumCache(tmp_path)
    held = Spectrum(1, np.ones(1), np.ones(1), np.ones((1, 5)), np.ones((1, 4)), np.ones((0, 4)))
    cache.keep("abcd", held)
    assert cache.load("abcd", (4, 5)) is None
    cache.keep("abcd", held)
    found = cache.load("abcd", (5, 4))
    assert found is not None
    assert (found.rank, found.left_top.tolist()) == (1, held.left_top.tolist())


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    base = base_state()
    found = measure(base, children(base, 2), cache=tmp_path / "file" / "below")
    assert found.pairs[0].metrics["subspace_overlap"].status == "ok"
