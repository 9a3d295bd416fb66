from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analyse.tiny import tiny_study
from miscible.analyse import Resampling, StudyTables, rank_correlations
from miscible.analyse.correlation import kendall, rearranged, spearman
from miscible.analyse.ranks import _exchange
from report.synthetic import COLLAPSED, small_analysis, small_study


@pytest.mark.parametrize("ties", [False, True])
def test_both_correlations_equal_scipys(ties: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = (rng.integers(0, 5, size=12) if ties else rng.normal(size=12) for _ in range(2))
        x, y = x.astype(float), y.astype(float)
        one = np.ones((1, 12))
        assert kendall(x, y, one)[0] == pytest.approx(stats.kendalltau(x, y).statistic)
        assert spearman(x, y, one)[0] == pytest.approx(stats.spearmanr(x, y).statistic)


def test_a_weight_is_that_many_copies() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 7))
    times = np.array([2, 0, 1, 3, 1, 0, 1])
    long_x, long_y = np.repeat(x, times), np.repeat(y, times)
    weights = times[None].astype(float)
    assert kendall(x, y, weights)[0] == pytest.approx(stats.kendalltau(long_x, long_y).statistic)
    assert spearman(x, y, weights)[0] == pytest.approx(stats.spearmanr(long_x, long_y).statistic)


def test_rearranged_values_correlate_as_scipy_says() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 9))
    orders = rng.integers(0, 9, size=(15, 9))
    tau, rho = rearranged(x, y, orders)
    for i, order in enumerate(orders):
        assert tau[i] == pytest.approx(stats.kendalltau(x[order], y).statistic)
        assert rho[i] == pytest.approx(stats.spearmanr(x[order], y).statistic)


def ranked_study(x: np.ndarray, y: np.ndarray, families: np.ndarray) -> StudyTables:
    """Return a study of scores alone: x is a behaviour, y an internals score."""
    names = [f"m{i}" for i in range(len(x))]
    study = tiny_study({"t": {name: [0.0, 1.0] for name in ("a", *names)}})
    rows = []
    for name, score, inner in zip(names, x, y, strict=True):
        for domain, estimate in (("behaviour", score), ("internals", inner)):
            rows.append({"model": name, "domain": domain, "dataset": domain, "metric": "acc",
                         "estimate": estimate, "low": np.nan, "high": np.nan, "layer": None,
                         "phenomenon": "", "competence": "", "higher_is_better": True,
                         "flags": ""})  # fmt: skip
    scores = pd.DataFrame(rows)
    scores["layer"] = scores["layer"].astype("Int64")
    models = study.models.copy()
    models.loc[models["model"] != "a", "family"] = [f"f{code}" for code in families]
    return replace(study, models=models, scores=scores)


@pytest.mark.parametrize("kinship", [0.0, 0.8])
def test_the_permutation_p_holds_its_level_whatever_the_kinship(kinship: float) -> None:
    rng = np.random.default_rng(3)
    families = np.repeat(np.arange(7), [1, 1, 3, 3, 2, 2, 2])
    p = []
    for _ in range(250):
        x, y = (
            np.sqrt(kinship) * rng.normal(size=7)[families]
            + np.sqrt(1 - kinship) * rng.normal(size=14)
            for _ in range(2)
        )
        exchanged = np.stack(
            [_exchange([np.flatnonzero(families == f) for f in range(7)], rng) for _ in range(199)]
        )
        null = np.abs(rearranged(y, x, exchanged)[0])
        observed = abs(kendall(x, y, np.ones((1, 14)))[0])
        p.append((1 + (null >= observed - 1e-10).sum()) / 200)
    assert (np.array(p) <= 0.05).mean() <= 0.09
    assert 0.35 <= np.mean(p) <= 0.65


def test_a_true_connection_is_found() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=14)
    families = np.repeat(np.arange(8), [1, 1, 2, 2, 2, 2, 2, 2])
    row = rank_correlations(ranked_study(x, x + 0.1 * rng.normal(size=14), families)).iloc[0]
    assert row["tau"] > 0.7
    assert row["tau_low"] > 0
    assert row["tau_p"] < 0.01
    assert (row["n_models"], row["n_families"]) == (14, 8)


def test_few_models_and_constants_are_declined_with_a_reason() -> None:
    few = rank_correlations(ranked_study(np.arange(4.0), np.arange(4.0), np.arange(4))).iloc[0]
    assert np.isnan(few["tau"])
    assert "4 models" in few["reason"]
    flat = rank_correlations(ranked_study(np.arange(6.0), np.ones(6), np.arange(6))).iloc[0]
    assert np.isnan(flat["tau"])
    assert "internals is the same" in flat["reason"]


def test_two_families_give_no_interval() -> None:
    x = np.arange(6.0)
    row = rank_correlations(ranked_study(x, x, np.array([0, 0, 0, 1, 1, 1]))).iloc[0]
    assert row["tau"] == pytest.approx(1)
    assert np.isnan(row["tau_low"])
    assert np.isnan(row["tau_p"])


def test_bits_per_byte_are_turned_so_that_better_goes_with_better() -> None:
    rows = small_analysis().ranks
    held = rows[(rows["dataset"] == "gsm8k_text") & rows["collapsed"]]
    assert held["tau"].mean() > 0


def test_collapsed_merges_are_in_one_half_of_the_rows() -> None:
    rows = small_analysis().ranks
    assert set(rows[rows["collapsed"]]["n_models"]) == {12}
    assert set(rows[~rows["collapsed"]]["n_models"]) == {11}
    assert COLLAPSED in small_analysis().collapsed


@pytest.mark.parametrize("layer", ["last", "best", "mean"])
def test_any_one_layer_can_stand_for_all(layer: str) -> None:
    options = Resampling(resamples=50)
    rows = rank_correlations(small_study(), layer=layer, unit="competence", options=options)  # type: ignore[arg-type]
    assert rows["tau"].notna().all()
    assert set(rows["unit"]) == {"syntax", "semantics", "morphology"}


def test_all_layers_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="one layer"):
        rank_correlations(small_study(), layer="each")
