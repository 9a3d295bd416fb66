"""WUDI: both solvers against references, low-rank task vectors, orientation, other tensors."""

from __future__ import annotations

import pytest
import torch

from merge.methods.direct import arrays, assert_near, run, task_vectors
from miscible.merge.spaces import Deltas
from miscible.models.delta import LowRank
from references import data_free as reference


def low_rank(count: int = 3, rank: int = 2, shape: tuple[int, int] = (12, 20)) -> list[LowRank]:
    generator = torch.Generator().manual_seed(0)
    outputs, inputs = shape
    return [
        LowRank(
            torch.randn(rank, inputs, generator=generator, dtype=torch.float64),
            torch.randn(outputs, rank, generator=generator, dtype=torch.float64),
            0.1 * (i + 1),
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("shape", [(16, 9), (9, 16), (8, 8), (2, 30)], ids=str)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_closed_form(count: int, shape: tuple[int, int]) -> None:
    taus = task_vectors(count, shape)
    assert_near(run("wudi", taus), reference.wudi_closed(arrays(taus)), 1e-9)


def test_closed_form_of_weighted_task_vectors() -> None:
    taus, weights = task_vectors(), [0.5, 2.0, -1.0]
    scaled = [w * tau for w, tau in zip(weights, arrays(taus), strict=True)]
    assert_near(run("wudi", taus, weight=weights), reference.wudi_closed(scaled), 1e-9)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_adam(count: int) -> None:
    taus = task_vectors(count)
    wanted = reference.wudi_adam(arrays(taus), 40, 1e-4)
    assert_near(run("wudi", taus, solver="adam", steps=40, learning_rate=1e-4), wanted, 1e-9)


def test_solvers_interfere_less_than_sum_and_mean() -> None:
    taus = task_vectors(4, (24, 24))
    every = arrays(taus)
    adam = run("wudi", taus, solver="adam", learning_rate=1e-4).numpy()
    closed, ridge = run("wudi", taus).numpy(), run("wudi", taus, ridge=0.1).numpy()
    losses = [
        reference.wudi_loss(merged, every)
        for merged in (closed, ridge, adam, sum(every) / 4, sum(every))
    ]
    assert losses[0] < losses[1] < min(losses[3:])
    assert losses[0] < losses[2] < min(losses[3:])


def test_a_strong_ridge_returns_the_sum() -> None:
    taus = task_vectors()
    assert_near(run("wudi", taus, ridge=1e12), sum(arrays(taus)), 1e-9)


def test_disjoint_inputs_do_not_interfere() -> None:
    """Task vectors with orthogonal row spaces are kept whole, side by side."""
    one, two = task_vectors(2, (6, 10))
    one[:, 5:], two[:, :5] = 0.0, 0.0
    assert_near(run("wudi", [one, two]), (one + two).numpy())


def test_first_dimension_as_input() -> None:
    taus = task_vectors(3, (9, 16))
    turned = run("wudi", [tau.T for tau in taus], inputs="first")
    assert_near(turned.T, run("wudi", taus).numpy(), 1e-12)


@pytest.mark.parametrize("ridge", [0.0, 0.01])
@pytest.mark.parametrize("inputs", ["last", "first"])
@pytest.mark.parametrize("solver", ["closed", "adam"])
@pytest.mark.parametrize("rank", [2, 12])
def test_factors_equal_their_products(ridge: float, inputs: str, solver: str, rank: int) -> None:
    factors = low_rank(rank=rank)
    dense = Deltas([factor.dense(torch.float64) for factor in factors])
    values = {"ridge": ridge, "inputs": inputs, "solver": solver, "weight": [1.0, 0.5, -2.0]}
    wanted = run("wudi", dense, **values).numpy()
    assert_near(run("wudi", Deltas(factors=factors), **values), wanted, 1e-6)


def test_factors_of_transposed_weights() -> None:
    factors = low_rank()
    turned = [LowRank(f.a, f.b, f.scale, transposed=True) for f in factors]
    wanted = run("wudi", Deltas(factors=factors)).numpy()
    found = run("wudi", Deltas(factors=turned), inputs="first")
    assert_near(found.T, wanted, 1e-6)


def test_factors_are_not_multiplied_out() -> None:
    deltas = Deltas(factors=low_rank())
    run("wudi", deltas)
    assert "tensors" not in vars(deltas)


def test_rounding_of_the_weights_is_not_blown_up() -> None:
    """Directions that hold only rounding errors of the weights are left alone."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(12, 20, generator=generator)
    exact = [factor.dense(torch.float32) for factor in low_rank()]
    rounded = [(base + tau) - base for tau in exact]
    assert_near(run("wudi", rounded), run("wudi", exact).numpy(), 1e-5)


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5)], ids=str)
def test_other_tensors_are_averaged(shape: tuple[int, ...]) -> None:
    taus = task_vectors(3, shape)
    mean = sum(w * tau for w, tau in zip((1, 2, 3), arrays(taus), strict=True)) / 3
    assert_near(run("wudi", taus, weight=[1.0, 2.0, 3.0]), mean)


def test_embeddings_are_averaged() -> None:
    taus = task_vectors()
    assert_near(run("wudi", taus, "embedding"), sum(arrays(taus)) / 3)
