"""Predictors as files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from miscible.errors import MiscibleError
from miscible.predict.card import card_of
from miscible.predict.fitting import Fit, fit
from miscible.predict.forecasting.knowledge import of_file
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
    one, other = (of_file(each)["mean"] for each in (fitted.predictor, again))
    assert np.array_equal(one.forecast(pairs).mean, other.forecast(pairs).mean)
    assert one.merged == other.merged == set(pairs.names())
    assert one.shared == other.shared


def test_new_models_have_intervals_of_their_own(fitted: Fit) -> None:
    pairs = made_up(11, signal=2.0).pairs
    known = of_file(fitted.predictor)["mean"]
    found, unseen = known.forecast(pairs), known.unseen(pairs)
    assert set(unseen.tolist()) == {0, 1, 2}
    _, high = known.interval(found, fitted.predictor.level)
    assert np.allclose(high - found.mean, np.array(known.scales)[unseen])


def test_tampered_files_are_refused(path: Path) -> None:
    held = json.loads(path.read_text())
    held["methods"]["mean"]["fitted"]["intercept"] += 1e-9
    path.write_text(json.dumps(held))
    with pytest.raises(MiscibleError, match="not as it was written"):
        read_predictor(path)


def test_other_versions_are_refused(path: Path) -> None:
    held = json.loads(path.read_text())
    path.write_text(json.dumps({**held, "version": 99, "miscible": "9.0"}))
    with pytest.raises(MiscibleError, match=r"format 99, from miscible '9\.0'"):
        read_predictor(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"format": "miscible predictor"}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(MiscibleError, match="predictor"):
        read_predictor(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"methods": {}}, "no method"),
        ({"level": None}, "it lacks something"),
        ({"objective": "lassi"}, r"tampered\.json: .*Did you mean 'lasso'"),
        ({"quantiles": []}, "quantiles"),
        ({"validation": {"loto": [1]}}, "validation"),
        ({"fitted": {}}, "'names'"),
    ],
)
def test_what_was_signed_again_is_still_checked(
    path: Path, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    held = json.loads(path.read_text())
    for key, value in change.items():
        (held if key in held else held["methods"]["mean"])[key] = value
    del held["sha256"]
    text = json.dumps(held, sort_keys=True, separators=(",", ":"))
    tampered = tmp_path / "tampered.json"
    signed = {**held, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    tampered.write_text(json.dumps(signed))
    with pytest.raises(MiscibleError, match=says):
        read_predictor(tampered)


def test_the_card_has_a_null_and_baselines_beside_every_score(fitted: Fit) -> None:
    card = card_of(fitted)
    for row in ("this predictor", "partner's mean", "best metric", "null (3)"):
        assert f"| {row} |" in card
    assert "80% intervals cover" in card
