"""Rows of tasks on words: planted properties are found where they are, and only there."""

from __future__ import annotations

import math

import numpy as np
import pytest

from miscible.probe.dataset import ProbeDataset
from miscible.probe.encoding.encode import Encoding
from miscible.probe.layout.tasks import TaskLayout
from miscible.probe.scoring.task_rows import TaskRows
from probe.layout.test_tasks import words_of


def made(dataset: ProbeDataset, states: np.ndarray) -> TaskRows:
    layout = TaskLayout.build(dataset, np.ones(len(dataset.examples), bool), 0)
    encoding = Encoding(
        tuple(range(states.shape[1])), states.astype(np.float32), np.zeros(0), np.zeros(0, int)
    )
    reads = [[np.asarray([row])] for row in range(len(states))]
    return TaskRows("m", layout, encoding, reads)


def probed(dataset: ProbeDataset, states: np.ndarray, *, control=False, words=False) -> TaskRows:
    rows = made(dataset, states)
    rows.add_probes(control)
    if words:
        rows.add_words()
    return rows


def planted(dataset: ProbeDataset, layers: int, at: int, width: int = 16) -> np.ndarray:
    """States that hold the label at one layer, and noise at the others."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(len(dataset.examples), layers, width))
    for row, example in enumerate(dataset.examples):
        if dataset.kind == "classification":
            states[row, at, int(example.label)] += 6
        else:
            states[row, at, 0] = float(example.label) + 0.1 * rng.normal()
    return states


@pytest.mark.parametrize("sentences", [30, 100])  # cross-fitted, and split once
def test_a_planted_class_is_read_at_its_layer(sentences) -> None:
    dataset = words_of(sentences, 6, types=61)
    rows = probed(dataset, planted(dataset, 3, 1), control=True).rows
    found = {row.layer: row for row in rows.scores if row.metric == "probe_accuracy"}
    assert found[1].estimate > 0.97 and found[1].low > 0.85
    for layer in (0, 2):
        assert found[layer].low <= 0.45 and found[layer].estimate < 0.55
        assert abs(found[layer].selectivity) < 0.25
    assert found[1].selectivity > 0.3 and found[1].baseline == pytest.approx(1 / 3, abs=0.1)
    tested = [item for item in rows.items if item.layer == 1]
    assert np.mean([item.value for item in tested]) == pytest.approx(found[1].estimate)
    assert found[1].n == len(tested) == (6 * sentences if sentences == 30 else found[1].n)
    assert {item.cluster.split("-")[0] for item in tested} == {i.item.split("-")[0] for i in tested}


def test_a_planted_value_is_read_at_its_layer() -> None:
    dataset = words_of(100, 6, "regression", types=61)
    rows = probed(dataset, planted(dataset, 3, 2), control=True).rows
    found = {row.layer: row for row in rows.scores}
    assert {row.metric for row in rows.scores} == {"probe_pearson"}
    assert found[2].estimate > 0.98 and abs(found[0].estimate) < 0.35
    assert found[2].baseline == 0 and found[2].selectivity > 0.3


@pytest.mark.parametrize("kind", ["mlp", "knn"])
def test_other_probes_read_it_too(kind) -> None:
    dataset = words_of(100, 6, types=61)
    held = made(dataset, planted(dataset, 2, 1))
    held.add_probes(probe=kind)
    found = {row.layer: row for row in held.rows.scores if row.metric == "probe_accuracy"}
    assert found[1].estimate > 0.9 > 0.6 > found[0].estimate
    assert found[1].flags.split(",")[-1] == kind


def test_a_readable_label_takes_few_bits() -> None:
    dataset = words_of(100, 6, types=61)
    held = made(dataset, planted(dataset, 2, 1))
    held.add_code_lengths(control=True)
    bits = {r.layer: r for r in held.rows.scores if r.metric == "mdl_bits"}
    compression = {r.layer: r for r in held.rows.scores if r.metric == "mdl_compression"}
    uniform = 600 * math.log2(3)
    for layer in (0, 1):
        assert compression[layer].estimate == pytest.approx(uniform / bits[layer].estimate)
    assert bits[1].estimate < uniform / 5 and bits[0].estimate > 0.9 * uniform
    assert compression[1].selectivity > 2 and not bits[0].higher_is_better


def test_the_reference_probe_has_the_spread_of_its_seeds() -> None:
    dataset = words_of(60, 6, types=61)
    held = made(dataset, planted(dataset, 2, 1))
    held.add_reference_probes()
    (noise, signal) = held.rows.scores
    assert {noise.metric, signal.metric} == {"holmes_macro_f1"}
    assert signal.low <= signal.estimate <= signal.high and signal.estimate > noise.estimate


def test_words_alone_can_tell() -> None:
    # The word form decides the class here: "3w2" belongs to class 2 in every sentence it occurs in,
    # but occurs in one sentence only, so that a bag of words has never seen it.
    dataset = words_of(100, 6)
    rows = probed(dataset, planted(dataset, 1, 0), words=True).rows
    words = {row.metric: row for row in rows.scores if row.layer is None}
    assert set(words) == {"bag_of_words_accuracy", "bag_of_words_macro_f1"}
    assert words["bag_of_words_accuracy"].estimate < 0.5


def test_scaling_and_shifting_activations_changes_nothing() -> None:
    dataset = words_of(60, 6)
    states = planted(dataset, 2, 1)
    rows = probed(dataset, states).rows
    scaled = probed(dataset, states * 1000 + 7).rows
    for one, other in zip(rows.scores, scaled.scores, strict=True):
        assert one.estimate == pytest.approx(other.estimate, abs=1e-9)


def test_a_layer_that_is_not_finite_fails_alone() -> None:
    dataset = words_of(60, 6)
    states = planted(dataset, 3, 1)
    states[5, 0, 3] = math.nan
    rows = probed(dataset, states).rows
    by_layer = {row.layer: row for row in rows.scores if row.metric == "probe_accuracy"}
    assert math.isnan(by_layer[0].estimate) and by_layer[0].flags == "nonfinite"
    assert by_layer[1].estimate > 0.97
    assert [failure.step for failure in rows.failures] == ["probe toy, layer 0"]


def test_a_constant_probe_is_marked() -> None:
    dataset = words_of(60, 6)
    rows = probed(dataset, np.ones((360, 1, 4))).rows
    assert all(row.flags.startswith("collapsed") for row in rows.scores)
