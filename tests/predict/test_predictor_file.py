"""Predictors as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from miscible.errors import MiscibleError, UnknownNameError
from miscible.predict.card import card_of
from miscible.predict.fitting import Fit, fit
from miscible.predict.predictor_file import read_predictor, write_predictor
from miscible.predict.validation.settings import Settings
from predict.synthetic import made_up


@pytest.fixture(scope="module")
def fitted() -> Fit:
    asked = Settings(k=4, draws=4, null=3, bootstrap=20, seeds=1)
    return fit(made_up(9, signal=2.0), settings=asked)


@pytest.fixture
def path(fitted: Fit, tmp_path: Path) -> Path:
    write_predictor(tmp_path / "predictor.json", fitted.predictor)
    return tmp_path / "predictor.json"


def test_what_is_read_is_what_was_written(fitted: Fit, path: Path) -> None:
    again = read_predictor(path)
    assert again.as_dict() == fitted.predictor.as_dict()
    pairs = made_up(9, signal=2.0).pairs
    one, other = (p.method("mean").forecast(pairs) for p in (fitted.predictor, again))
    assert np.array_equal(one.mean, other.mean) and np.array_equal(one.low, other.low)
    assert one.unseen.tolist() == [0] * len(pairs)
    assert (one.low < one.mean).all() and (one.mean < one.high).all()


def test_new_models_have_intervals_of_their_own(fitted: Fit) -> None:
    pairs = made_up(11, signal=2.0).pairs
    found = fitted.predictor.method("mean").forecast(pairs)
    assert set(found.unseen.tolist()) == {0, 1, 2}
    scales = fitted.predictor.method("mean").scales
    assert np.allclose(found.high - found.mean, np.array(scales)[found.unseen])


def test_methods_are_suggested(fitted: Fit) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'mean'"):
        fitted.predictor.method("meen")


def test_tampered_files_are_refused(path: Path) -> None:
    held = json.loads(path.read_text())
    held["methods"]["mean"]["fitted"]["intercept"] += 1e-9
    path.write_text(json.dumps(held))
    with pytest.raises(MiscibleError, match="not as it was written"):
        read_predictor(path)


def test_other_versions_are_refused(path: Path) -> None:
    held = json.loads(path.read_text())
    path.write_text(json.dumps({**held, "version": 2, "miscible": "9.0"}))
    with pytest.raises(MiscibleError, match=r"format 2, from miscible '9\.0'"):
        read_predictor(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"format": "miscible predictor"}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(MiscibleError, match="predictor"):
        read_predictor(path)


def test_the_card_has_a_null_and_baselines_beside_every_score(fitted: Fit) -> None:
    card = card_of(fitted)
    for row in ("this predictor", "partner's mean", "best metric", "null (3)"):
        assert f"| {row} |" in card
    assert "80% intervals cover" in card
