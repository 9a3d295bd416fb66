"""Models compared without probes, on the same sample of texts."""

from __future__ import annotations

import numpy as np
import pytest

from miscible.models import LiveModel, open_checkpoint
from miscible.probe.comparison.compare import Portrait, Sample, compare, describe
from miscible.probe.contract import SourceOptions, open_datasets


@pytest.fixture
def live(shared_data) -> LiveModel:
    return LiveModel.load(open_checkpoint(str(shared_data / "models/stories260k")))


@pytest.fixture
def datasets():
    return open_datasets(["templates:en"], SourceOptions(limit=8))


def test_a_sample_is_drawn_from_all_data_sets_by_the_seed(live, datasets) -> None:
    sample = Sample.draw(datasets, live, texts=40)
    assert sample.wholes == 40 == len(sample.encoding.texts)
    assert len(sample.encoding.reads) == 50  # a token of every fourth
    good = [{pair.good for pair in dataset.pairs} for dataset in datasets]
    touched = sum(bool(texts & set(sample.encoding.texts)) for texts in good)
    assert touched == len(datasets)
    assert Sample.draw(datasets, live, texts=40).encoding.texts == sample.encoding.texts
    assert Sample.draw(datasets, live, seed=1, texts=40).encoding.texts != sample.encoding.texts


def test_a_model_is_like_itself(live, datasets) -> None:
    portrait = Portrait.of(live, Sample.draw(datasets, live, texts=40))
    rows = compare(portrait, portrait)
    by_metric = {
        metric: [r for r in rows if r.metric == metric] for metric in {r.metric for r in rows}
    }
    assert set(by_metric) == {"cka", "norm_ratio", "cosine", "relative_distance", "lens_kl"}
    assert len(by_metric["cka"]) == 36 and len(by_metric["cosine"]) == 6
    diagonal = [row.estimate for row in by_metric["cka"] if row.layer == row.other_layer]
    np.testing.assert_allclose(diagonal, 1, atol=1e-9)
    for metric, value in (
        ("norm_ratio", 1),
        ("cosine", 1),
        ("relative_distance", 0),
        ("lens_kl", 0),
    ):
        np.testing.assert_allclose([r.estimate for r in by_metric[metric]], value, atol=1e-6)
    assert {row.n for row in by_metric["lens_kl"]} == {10}


def test_random_weights_are_not(live, datasets) -> None:
    sample = Sample.draw(datasets, live, texts=40)
    trained = Portrait.of(live, sample)
    live.randomise(0)
    fresh = Portrait.of(live, sample)
    assert fresh.name == "random weights"
    rows = compare(fresh, trained)
    last = {row.metric: row for row in rows if row.layer == row.other_layer == 5}
    assert last["cka"].estimate < 0.9 and last["lens_kl"].estimate > 0.5
    assert last["lens_kl"].low < last["lens_kl"].estimate < last["lens_kl"].high
    alone = describe(fresh)
    wanted = {"effective_rank", "participation_ratio", "anisotropy", "lens_gap"}
    assert {row.metric for row in alone} == wanted
    gaps = [row.estimate for row in alone if row.metric == "lens_gap"]
    assert gaps[-1] == 0 and min(gaps[:-1]) > 0
    some = Portrait.of(live, sample, [0, 3])  # without the last layer there is nothing to reach
    assert {row.metric for row in describe(some)} == wanted - {"lens_gap"}


def test_other_shapes_are_compared_by_cka_alone(live, datasets) -> None:
    sample = Sample.draw(datasets, live, texts=20)
    whole = Portrait.of(live, sample)
    some = Portrait.of(live, sample, [0, 3])
    rows = compare(some, whole)
    assert {row.metric for row in rows} == {"cka"}
    assert {(row.layer, row.other_layer) for row in rows} == {
        (a, b) for a in (0, 3) for b in range(6)
    }
