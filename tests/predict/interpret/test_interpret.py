"""What is said of weights and of categories, on tables whose law is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from miscible.predict.contract import make
from miscible.predict.interpret.ablation import Ablator, categories
from miscible.predict.interpret.collinearity import collinearity
from miscible.predict.interpret.fingerprints import fingerprint, likenesses
from miscible.predict.pairs import Examples
from miscible.predict.validation.folds import leave_one_task_out, leave_tasks_out
from predict.synthetic import examples

NAMES = ("task_vector_cosine_similarity", "effective_rank", "home_made", "loss_mean")


def named() -> Examples:
    held = examples(12, 4, signal=3.0)
    return replace(held, pairs=replace(held.pairs, metric_names=NAMES))


def test_the_weight_that_is_there_is_stable() -> None:
    weights = fingerprint(make("lasso"), named(), samples=40)
    assert set(weights) == {*NAMES, "mean(finetuned)", "gap(finetuned)"}
    real = weights[NAMES[0]]
    assert real.selected_folds == real.selected_bootstrap == 1.0
    assert real.sign_folds == real.sign_bootstrap == 1.0
    assert 0 < real.low < real.value < real.high
    assert all(weights[name].selected_bootstrap < 1 for name in NAMES[1:])


def test_methods_are_compared() -> None:
    one = {"a": 3.0, "b": -2.0, "c": 1.0, "d": 0.5, "e": 0.4, "f": 0.1, "g": 0.0}
    other = {**one, "a": -3.0, "f": 5.0, "e": 0.0}
    (found,) = likenesses({"ties": one, "dare": other})
    assert (found.a, found.b) == ("dare", "ties")
    assert found.top == pytest.approx(4 / 5) and found.chance == pytest.approx(5 / 7)
    assert found.shared == 5 and found.sign == pytest.approx(4 / 5)


def test_repeats_are_named() -> None:
    pairs = examples(10, 5).pairs
    metrics = pairs.metrics.copy()
    metrics[:, 3] = 2 - 3 * metrics[:, 1]
    metrics[:, 4] = metrics[:, 0] + metrics[:, 2]
    found = collinearity(
        replace(pairs, metrics=metrics, scalar_names=(), scalars=np.empty((10, 0)))
    )
    assert found.features == 5 and found.rank == 3
    assert found.groups == (("metric1", "metric3"),)
    assert [name for name, _ in found.explained] == ["metric0", "metric2", "metric4"]
    assert any("one and the same" in sentence for sentence in found.sentences())


def test_categories_are_those_of_the_registry() -> None:
    assert categories(named().pairs) == {
        "task_vector": ["task_vector_cosine_similarity"], "effective_rank": ["effective_rank"],
        "other": ["home_made", "loss_mean"], "models": ["finetuned"],
    }  # fmt: skip


def test_ablation_finds_what_matters() -> None:
    held = named()
    loto, lkto = leave_one_task_out(held.pairs), leave_tasks_out(held.pairs, 4, 6, seed=0)
    found = Ablator(make("ols"), held, held.pairs, loto, lkto, null=9).run()
    without = {each.what: each for each in found.without}
    alone = {each.what: each for each in found.alone}
    assert without["without task_vector"].loto_r < 0.5 < alone["task_vector alone"].loto_r
    assert alone["task_vector alone"].p == 0.1 and alone["other alone"].p > 0.1
    assert without["without other"].p == 0.1 and without["without task_vector"].p > 0.1
    assert found.added[0].what == f"+ {NAMES[0]}" and len(found.added) == 5
    assert found.eliminated[-1].features == 1
    assert found.eliminated[-1].loto_r == found.added[0].loto_r
    assert len(found.alone) == len(found.without) == len(categories(held.pairs))
    assert found.everything.lkto_skill > 0.5


def test_steps_are_chosen_anew_in_their_null() -> None:
    held = named()
    loto = leave_one_task_out(held.pairs)
    real = Ablator(make("ols"), held, held.pairs, loto, [], null=4).run()
    assert real.relabellings == 4 and real.as_dict()["steps_null_number"] == 4
    assert real.added[0].p == 0.2 and real.eliminated[-1].p == 0.2
    noise = replace(held, mean=np.random.default_rng(3).standard_normal(len(held)))
    found = Ablator(make("ols"), noise, noise.pairs, loto, [], null=4).run()
    # the first step takes the best of five: so does its null, which one feature's lies below
    single = Ablator(make("ols"), noise, noise.pairs, loto, [], null=4).score(
        "one", [found.added[0].what[2:]], null=4
    )
    assert found.added[0].loto_r == single.loto_r
    assert found.added[0].null_r > single.null_r and found.added[0].p >= single.p
    without = Ablator(make("ols"), held, held.pairs, loto, []).run()
    assert without.relabellings == 0 and np.isnan(without.added[0].p)
