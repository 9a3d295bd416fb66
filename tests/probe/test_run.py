"""Rows of a whole probing run."""

from __future__ import annotations

import copy
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from miscible.probe.contract import SourceOptions, open_datasets
from miscible.probe.encoding.encode import Encoding, encode
from miscible.probe.layout.pairs import PairLayout
from miscible.probe.plan import ProbePlan
from miscible.probe.run import ProbeOptions, probe_model
from miscible.probe.scoring.pair_rows import PairRows, macro_f1
from miscible.probe.scoring.rows import Rows
from probe.toy_data import dataset_of


def encoding_of(states: np.ndarray) -> Encoding:
    """Made-up states [texts, layers, width]; each text has log-probability -10 over 5 tokens."""
    texts, layers, _ = states.shape
    return Encoding(
        tuple(range(layers)), states.astype(np.float32), np.full(texts, -10.0), np.full(texts, 5)
    )


def toy(pairs: int, leak: float, layers: int = 1, seed: int = 0):
    """Pairs whose states differ by *leak* between good and bad; good ones first."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(2 * pairs, layers, 8))
    states[:pairs, :, 0] += leak
    dataset = dataset_of([(f"good {i}", f"bad {i}") for i in range(pairs)])
    good = np.arange(pairs)
    return PairLayout.build(dataset), encoding_of(states), good, good + pairs


def probed(layout, encoding, good, bad, control=False, marks=()) -> Rows:
    held = PairRows("m", layout, encoding, good, bad, good, bad, marks)
    held.add_probes(control)
    return held.rows


def preferred(layout, encoding, good, bad) -> Rows:
    held = PairRows("m", layout, encoding, good, bad, good, bad)
    held.add_preference()
    return held.rows


def test_random_labels_score_at_chance() -> None:
    # One interval in twenty may miss; the mean over many data sets may not.
    scores = []
    for seed in range(20):
        layout, encoding, good, bad = toy(60, 0.0, seed=seed)
        rows = probed(layout, encoding, good, bad).scores
        scores.append(rows[0])
    assert np.mean([row.low <= 0.5 <= row.high for row in scores]) >= 0.8
    assert abs(np.mean([row.estimate for row in scores]) - 0.5) < 0.05
    assert all(row.high - row.low > 0.05 for row in scores)


def test_a_readable_property_is_read() -> None:
    layout, encoding, good, bad = toy(60, 10.0)
    rows = probed(layout, encoding, good, bad, True, ())
    accuracy, f1 = rows.scores
    assert (accuracy.metric, f1.metric) == ("probe_accuracy", "probe_macro_f1")
    assert accuracy.estimate == f1.estimate == 1 and accuracy.high == 1
    assert 0.9 < accuracy.low < 1  # 60 pairs do not prove perfection
    assert accuracy.baseline == 0.5 and f1.baseline == pytest.approx(1 / 3)
    assert 0.3 < accuracy.selectivity < 0.7 and not accuracy.flags
    assert [item.item for item in rows.items] == [pair.id for pair in layout.dataset.pairs]
    assert {(item.value, item.cluster == item.item) for item in rows.items} == {(1.0, True)}


def test_a_probe_that_says_one_thing_is_marked() -> None:
    layout, encoding, good, bad = toy(30, 0.0)
    flat = encoding_of(np.ones_like(encoding.states))
    accuracy, f1 = probed(layout, flat, good, bad).scores
    assert accuracy.flags == "collapsed" and accuracy.estimate == accuracy.baseline
    assert f1.flags == "collapsed" and f1.estimate == pytest.approx(f1.baseline)


def test_macro_f1_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        good, bad = rng.random(30) < 0.7, rng.random(30) < 0.4
        called = np.concatenate([good, ~bad])
        truth = np.repeat([True, False], 30)
        expected = f1_score(truth, called, average="macro")
        assert macro_f1(good.mean(), bad.mean()) == pytest.approx(expected)


def test_items_and_score_agree_with_the_stated_formula() -> None:
    layout, encoding, good, bad = toy(4, 0.0)
    encoding.log_probability[:] = [-10, -20, -30, -7, -12, -10, -30, -9]
    encoding.tokens[:] = [5, 5, 5, 7, 4, 5, 5, 3]
    rows = preferred(layout, encoding, good, bad)
    preference, margin = rows.scores
    assert preference.estimate == np.mean([1, 0, 0.5, 1]) and preference.layer is None
    assert margin.estimate == pytest.approx(np.mean([-2 + 3, -4 + 2, 0, -1 + 3]))
    assert [item.value for item in rows.items[:4]] == [1, 0, 0.5, 1]


def test_activations_that_are_not_finite_fail_by_name() -> None:
    layout, encoding, good, bad = toy(30, 10.0, layers=3)
    encoding.states[5, 1, 2] = np.nan
    encoding.log_probability[3] = np.nan
    rows = probed(layout, encoding, good, bad, False, ("excluded:2",))
    by_layer = {row.layer: row for row in rows.scores if row.metric == "probe_accuracy"}
    assert by_layer[0].estimate == by_layer[2].estimate == 1
    assert math.isnan(by_layer[1].estimate) and by_layer[1].flags == "nonfinite,excluded:2"
    assert {item.layer for item in rows.items} == {0, 2}
    assert rows.failures[0].step == "probe toy, layer 1"
    by_probability = preferred(layout, encoding, good, bad)
    assert (
        all(math.isnan(row.estimate) for row in by_probability.scores) and not by_probability.items
    )
    assert "1 of 30 pairs" in by_probability.failures[0].error


def test_a_broken_model_is_reported_and_not_scored(stories) -> None:
    broken = copy.deepcopy(stories.model)
    with torch.no_grad():
        broken.model.layers[2].mlp.down_proj.weight[0, 0] = math.inf
    live = SimpleNamespace(
        model=broken, tokenizer=stories.tokenizer, device=torch.device("cpu"), name="broken"
    )
    dataset = open_datasets(["templates"], SourceOptions(limit=10))[0]
    found = probe_model(live, ProbePlan.build([dataset], live))
    assert [failure.step[-7:] for failure in found.failures[:3]] == [
        "layer 3",
        "layer 4",
        "layer 5",
    ]
    scored = {row.layer for row in found.scores if not math.isnan(row.estimate)}
    assert scored == {0, 1, 2}


def test_rows_of_a_real_model(stories) -> None:
    datasets = open_datasets(["templates"], SourceOptions(limit=20))[:3]
    plan = ProbePlan.build(datasets, stories)
    found = probe_model(stories, plan, name="tiny")
    assert len(found.scores) == 3 * (6 * 2 + 2) and not found.failures
    for row in found.scores:
        assert row.model == "tiny" and row.domain == "internals" and row.n == 20
        assert row.low <= row.estimate <= row.high
    again = probe_model(stories, plan, name="tiny")
    assert again == found
    alone = probe_model(stories, ProbePlan.build(datasets[1:2], stories))
    expected = [row for row in found.scores if row.dataset == datasets[1].name]
    assert [row.estimate for row in alone.scores] == pytest.approx(
        [row.estimate for row in expected], abs=0.051
    )


def test_words_and_controls_are_added_on_request(stories) -> None:
    (dataset,) = open_datasets(["templates:en/subject_verb_agreement"], SourceOptions(limit=20))
    found = probe_model(
        stories, ProbePlan.build([dataset], stories), ProbeOptions([-1], control=True, words=True)
    )
    words = found.scores[-1]
    assert words.metric == "bag_of_words_accuracy" and words.layer is None
    assert words.estimate == 0.5  # a bag of words is the same for good and bad
    assert not math.isnan(found.scores[0].selectivity)


def test_waves_change_nothing(stories, monkeypatch) -> None:
    import miscible.probe.plan as module

    datasets = open_datasets(["templates"], SourceOptions(limit=10))[:4]
    whole = ProbePlan.build(datasets, stories)
    monkeypatch.setattr(module, "MAX_STATES_BYTES", 1)
    parts = ProbePlan.build(datasets, stories)
    assert (len(whole.waves), len(parts.waves)) == (1, 4)
    states = encode(stories, whole.waves[0].encoding).states
    split = np.concatenate([encode(stories, wave.encoding).states for wave in parts.waves])
    np.testing.assert_allclose(states, split, atol=1e-4)


def test_folds_depend_on_content_and_seed_alone() -> None:
    words = random.Random(0).sample(range(1000), 80)
    pairs = [(f"good {word}", f"bad {word}") for word in words]
    one, renamed = dataset_of(pairs), dataset_of(pairs, "renamed")
    assert one.key == renamed.key
    np.testing.assert_array_equal(PairLayout.build(one).folds, PairLayout.build(renamed).folds)
    assert (PairLayout.build(one).folds != PairLayout.build(one, seed=1).folds).any()


def test_a_data_set_that_cannot_be_divided_fails_alone(stories) -> None:
    (sound,) = open_datasets(["templates:en/subject_verb_agreement"], SourceOptions(limit=20))
    small = dataset_of([("A good one.", "A bad one.")], "small")
    found = probe_model(stories, ProbePlan.build([small, sound], stories))
    assert [failure.step for failure in found.failures] == ["probe small"]
    assert "at least 3" in found.failures[0].error
    assert {row.dataset for row in found.scores} == {sound.name}
