"""Metrics taken apart into what is general to a model and what is special to a pair."""

from itertools import combinations

import numpy as np
import pytest

from miscible.predict.effects.profiles import Profiles
from miscible.predict.pairs import Pairs


def pairs_of(names, metrics, metric_names=("m",)):
    models = tuple(dict.fromkeys(name for pair in names for name in pair))
    first = np.array([models.index(a) for a, _ in names], dtype=np.int64)
    second = np.array([models.index(b) for _, b in names], dtype=np.int64)
    values = np.asarray(metrics, dtype=float).reshape(len(names), len(metric_names))
    return Pairs(models, first, second, metric_names, values, (), np.zeros((len(models), 0)))


def additive(general, rng=None, noise=0.0):
    names = list(combinations(general, 2))
    values = [general[a] + general[b] for a, b in names]
    if rng is not None:
        values = values + noise * rng.standard_normal(len(values))
    return pairs_of(names, values)


def test_an_additive_metric_is_general_alone():
    general = dict(zip("abcdef", [3.0, -1.0, 0.5, 2.0, -4.0, 1.5], strict=True))
    pairs = additive(general)
    profiles = Profiles.of(pairs)
    found = profiles.general[:, 0] * profiles.scale[0]
    expected = np.array([general[name] for name in profiles.models])
    assert found == pytest.approx(expected - expected.mean(), abs=0.1)
    assert profiles.special_scale[0] < 0.02


def test_noise_alone_is_drawn_to_the_mean():
    rng = np.random.default_rng(0)
    pairs = additive(dict.fromkeys("abcdefgh", 0.0), rng, 1.0)
    assert np.abs(Profiles.of(pairs).general).max() < 0.25


def test_parts_add_up_to_the_metric():
    rng = np.random.default_rng(1)
    pairs = additive(dict(zip("abcdef", rng.standard_normal(6), strict=True)), rng, 0.3)
    profiles = Profiles.of(pairs)
    general, special = profiles.apart(pairs)
    whole = [
        general[a][0] * profiles.general_scale[0] + general[b][0] * profiles.general_scale[0]
        for a, b in pairs.names()
    ] + special[:, 0] * profiles.special_scale[0]
    scaled = (pairs.metrics[:, 0] - profiles.centre[0]) / profiles.scale[0]
    assert whole == pytest.approx(scaled, abs=1e-12)


def test_a_new_model_is_placed_by_one_partner():
    known = dict(zip("abcdefgh", np.linspace(-2, 2, 8), strict=True))
    profiles = Profiles.of(additive(known, np.random.default_rng(2), 0.05))
    general, _ = profiles.apart(pairs_of([("a", "new")], [known["a"] + 5.0]))
    unit = profiles.general_scale[0] * profiles.scale[0]
    assert general["new"][0] * unit == pytest.approx(5.0, abs=0.4)


def test_two_new_models_share_what_they_are_seen_to_have():
    known = dict(zip("abcdefgh", np.linspace(-2, 2, 8), strict=True))
    profiles = Profiles.of(additive(known, np.random.default_rng(2), 0.05))
    general, _ = profiles.apart(pairs_of([("x", "y")], [6.0]))
    unit = profiles.general_scale[0] * profiles.scale[0]
    assert general["x"][0] == pytest.approx(general["y"][0])
    assert (general["x"][0] + general["y"][0]) * unit == pytest.approx(6.0, abs=0.3)


def test_missing_cells_and_constant_metrics_say_nothing():
    rng = np.random.default_rng(3)
    names = list(combinations("abcde", 2))
    values = np.column_stack([rng.standard_normal(10), np.full(10, 7.0), np.full(10, np.nan)])
    values[3, 0] = np.nan
    pairs = pairs_of(names, values, ("some", "constant", "absent"))
    general, special = Profiles.of(pairs).apart(pairs)
    assert special[3, 0] == 0.0
    assert all(np.all(row[1:] == 0.0) for row in general.values())
    assert np.all(special[:, 1:] == 0.0)


def test_metrics_are_matched_by_name():
    rng = np.random.default_rng(4)
    names = list(combinations("abcdef", 2))
    values = rng.standard_normal((15, 2))
    profiles = Profiles.of(pairs_of(names, values, ("p", "q")))
    there = profiles.apart(pairs_of(names, values, ("p", "q")))[1]
    swapped = profiles.apart(pairs_of(names, values[:, ::-1], ("q", "p")))[1]
    assert np.array_equal(there, swapped)
