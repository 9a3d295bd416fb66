"""Methods on task vectors that need no data, against float64 references and their laws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merge.methods.direct import arrays, assert_near, run, task_vectors
from miscible.merge.contract import METHODS
from references import data_free as reference

NAMES = [
    "composed", "consensus_ta", "emr", "geometric_median", "magmax", "pcb", "tall_mask", "wudi",
]  # fmt: skip
SHAPES = [(6, 5), (5,), (3, 4, 2), (1, 7), (7, 1), (), (0, 3), (0,)]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_consensus_ta(count: int, k: int) -> None:
    taus = task_vectors(count)
    thresholds = [0.2 + 0.1 * i for i in range(count)]
    wanted = reference.consensus_ta(arrays(taus), thresholds, min(k, count))
    assert_near(run("consensus_ta", taus, tall_lambda=thresholds, k=k), wanted)


def test_consensus_of_none_is_task_arithmetic() -> None:
    taus = task_vectors()
    assert run("consensus_ta", taus, k=0).equal(taus[0] + taus[1] + taus[2])


def test_consensus_of_a_worked_example() -> None:
    # Others of the first element: 1 against 9, 9 against 1. Of the second: 5 against 4 and back.
    one, two = torch.tensor([1.0, 5.0, -3.0]), torch.tensor([9.0, 4.0, -2.0])
    found = run("consensus_ta", [one, two], tall_lambda=0.5, k=2)
    assert found.tolist() == [0.0, 9.0, -5.0]
    first = run("tall_mask", [one, two], tall_lambda=0.5, expert=0)
    assert first.tolist() == [0.0, 9.0, -5.0]
    second = run("tall_mask", [one, two], tall_lambda=0.5, expert=1)
    assert second.tolist() == [10.0, 9.0, -5.0]


@pytest.mark.parametrize("expert", [0, 1, 2])
def test_tall_mask(expert: int) -> None:
    taus = task_vectors()
    weights = [1.0, 0.5, -2.0]
    scaled = [w * tau for w, tau in zip(weights, arrays(taus), strict=True)]
    wanted = sum(scaled) * reference.tall_mask(scaled, expert, 0.4)
    assert_near(run("tall_mask", taus, weight=weights, expert=expert), wanted)


@pytest.mark.parametrize("name", ["tall_mask", "emr"])
def test_an_expert_that_is_no_model_is_refused(name: str) -> None:
    check = METHODS.get(name).check
    assert check is not None
    assert check({"expert": 1, "weight": (1.0, 1.0)}) is None
    assert "expert 2" in (check({"expert": 2, "weight": (1.0, 1.0)}) or "")


@pytest.mark.parametrize("density", [1.0, 0.5, 0.1, 0.001])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_pcb(count: int, density: float) -> None:
    taus = task_vectors(count, seed=count)
    weights = [1.0, 0.5, 2.0, -1.0][:count]
    wanted = reference.pcb(arrays(taus), weights, density)
    assert_near(run("pcb", taus, weight=weights, density=density), wanted)
    assert_near(
        run("pcb", [tau.float() for tau in taus], weight=weights, density=1.0),
        reference.pcb(arrays([tau.float() for tau in taus]), weights, 1.0),
        1e-5,
    )


def test_pcb_of_nothing_kept_is_the_base() -> None:
    assert not run("pcb", task_vectors(), density=0.0).any()


def test_pcb_keeps_small_scores_of_large_tensors_apart() -> None:
    """Softmax over many elements must not underflow in float32."""
    taus = task_vectors(2, (1 << 16,), dtype=torch.float32)
    assert_near(run("pcb", taus), reference.pcb(arrays(taus), [1.0, 1.0], 1.0), 1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_magmax(count: int) -> None:
    taus = task_vectors(count)
    assert_near(run("magmax", taus), reference.magmax(arrays(taus)), 0.0)


def test_magmax_of_equal_magnitudes_is_positive_in_any_order() -> None:
    one, two = torch.tensor([1.0, -2.0]), torch.tensor([-1.0, 2.0])
    assert run("magmax", [one, two]).tolist() == run("magmax", [two, one]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_emr(count: int) -> None:
    taus = task_vectors(count)
    assert_near(run("emr", taus), reference.emr_unified(arrays(taus)), 0.0)
    for expert in range(count):
        wanted = reference.emr_expert(arrays(taus), expert)
        assert_near(run("emr", taus, expert=expert), wanted)


def test_emr_elects_nothing_where_the_vote_is_even() -> None:
    one, two = torch.tensor([1.0, 3.0, -2.0, 0.0]), torch.tensor([-1.0, -2.0, -5.0, 4.0])
    assert run("emr", [one, two]).tolist() == [0.0, 3.0, -5.0, 4.0]


def test_emr_expert_keeps_its_norm_and_signs() -> None:
    taus = task_vectors()
    restored = run("emr", taus, expert=1)
    assert torch.isclose(restored.abs().sum(), taus[1].abs().sum(), rtol=1e-12)
    assert ((restored == 0) | (restored.sign() == taus[1].sign())).all()


def test_emr_masks_by_sign_not_by_a_product_that_underflows() -> None:
    taus = [torch.tensor([1e-30, -2e-30]), torch.tensor([2e-30, -1e-30])]
    assert run("emr", taus, expert=0).count_nonzero() == 2


# What holds for all of them.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_model_is_returned(name: str, shape: tuple[int, ...]) -> None:
    (tau,) = task_vectors(1, shape, dtype=torch.float32)
    found = run(name, [tau])
    assert found.dtype == tau.dtype
    assert torch.allclose(found, tau, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_zero_task_vectors_give_zero(name: str, shape: tuple[int, ...]) -> None:
    found = run(name, [torch.zeros(shape)] * 3)
    assert found.shape == shape
    assert not found.any()  # NaN counts as true


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_zero_task_vector_does_no_harm(name: str, shape: tuple[int, ...]) -> None:
    taus = task_vectors(2, shape, dtype=torch.float32)
    assert run(name, [*taus, torch.zeros(shape)]).isfinite().all()
    assert run(name, [torch.zeros(shape), *taus], weight=[1.0, 0.0, 1.0]).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), factor=st.floats(-2, 2))
def test_proportional_to_lambda(name: str, seed: int, factor: float) -> None:
    taus = task_vectors(3, (6, 5), seed)
    whole, part = run(name, taus), run(name, taus, lambda_=factor)
    assert torch.allclose(part, factor * whole, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "tall_mask"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_order_is_irrelevant(name: str, seed: int) -> None:
    taus = task_vectors(4, (6, 5), seed)
    forward, backward = run(name, taus), run(name, taus[::-1])
    # WUDI solves a system whose condition random matrices do not bound.
    assert torch.allclose(forward, backward, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", [n for n in NAMES if METHODS.get(n).elementwise])
def test_elementwise_methods_may_be_cut_anywhere(name: str) -> None:
    taus = task_vectors(3, (40,))
    parts = [run(name, [tau[i : i + 7] for tau in taus]) for i in range(0, 40, 7)]
    assert run(name, taus).equal(torch.cat(parts))


def test_which_methods_are_elementwise() -> None:
    elementwise = {n for n in NAMES if METHODS.get(n).elementwise}
    assert elementwise == {"consensus_ta", "tall_mask", "magmax", "emr"}
