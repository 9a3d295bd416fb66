"""Single features with the outcome, beside those of the wrong models."""

from __future__ import annotations

import numpy as np
import pytest

from miscible.predict.baselines import line_correlation
from miscible.predict.interpret.single import correlations, single_correlations, strongest
from predict.synthetic import examples


def test_r_is_pearson_s_over_the_cells_that_are_there() -> None:
    rng = np.random.default_rng(0)
    features, outcome = rng.normal(size=(30, 5)), rng.normal(size=30)
    features[::3, 1] = np.nan
    features[2:, 2] = np.nan
    features[:, 3] = 7.0
    found = correlations(features, outcome)
    assert found == pytest.approx([line_correlation(column, outcome) for column in features.T])
    assert found[0] == pytest.approx(np.corrcoef(features[:, 0], outcome)[0, 1])
    assert found[2] == found[3] == 0.0


def test_what_is_there_stands_out_and_noise_does_not() -> None:
    held = examples(12, 6, signal=3.0)
    found = single_correlations(held, held.pairs, null=99)
    assert strongest(found, 1) == ["metric0"]
    real = found["metric0"]
    assert real.p == real.p_any == 0.01 and not real.null_low < real.r < real.null_high
    noise = [found[f"metric{n}"] for n in range(1, 6)]
    assert all(each.p_any > 0.05 for each in noise)
    assert all(each.p <= each.p_any for each in found.values())
    assert {"mean(finetuned)", "gap(finetuned)"} < set(found)


def test_features_of_models_alone_have_a_wide_null() -> None:
    """A scalar of models and an outcome made of effects of models agree far by chance."""
    held = examples(10, 1, signal=0.0, effects=5.0)
    found = single_correlations(held, held.pairs, null=99)
    scalar, metric = found["mean(finetuned)"], found["metric0"]
    assert scalar.null_high - scalar.null_low > 1.5 * (metric.null_high - metric.null_low)


def test_the_null_is_that_of_tables_relabelled_one_by_one() -> None:
    held = examples(8, 2)
    found = single_correlations(held, held.pairs, null=5, seed=3)
    random, wrong = np.random.default_rng(3), []
    for _ in range(5):
        moved = held.pairs.relabelled(random.permutation(8), held.pairs)
        wrong.append(line_correlation(moved.metrics[:, 1], held.mean))
    as_far = sum(abs(r) >= abs(found["metric1"].r) for r in wrong)
    assert found["metric1"].p == pytest.approx((1 + as_far) / 6)
    assert found["metric1"].null_high == pytest.approx(np.quantile(wrong, 0.975))


def test_without_a_null_none_is_made_up() -> None:
    held = examples(8, 2)
    found = single_correlations(held, held.pairs, null=0)
    assert np.isnan([found["metric0"].p, found["metric0"].null_low]).all()
