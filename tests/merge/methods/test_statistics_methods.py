"""Fisher merging and RegMean against their definitions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from miscible.errors import IncompatibleModelsError
from miscible.merge.contract import METHODS, Context, Site
from miscible.merge.spaces import Weights
from references import statistics as reference

OUT, IN, TOKENS = 5, 7, 40
DEFAULTS = {
    "fisher": {"weight": (1.0, 1.0), "eps": 0.0},
    "regmean": {"weight": (1.0, 1.0), "reduce_non_diagonal_ratio": 1.0, "eps": 0.0},
}


def merge(
    name: str,
    tensors: Sequence[torch.Tensor],
    statistics: Sequence[torch.Tensor | None],
    **values: object,
) -> torch.Tensor:
    method = METHODS.get(name)
    context = Context(Site("layer.weight"), statistics=statistics)
    return method(Weights(tensors), DEFAULTS[name] | values, context).tensor


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def weights_of(rng: np.random.Generator, count: int = 2) -> list[torch.Tensor]:
    return [torch.from_numpy(rng.normal(size=(OUT, IN))) for _ in range(count)]


def inputs_of(rng: np.random.Generator, count: int = 2, tokens: int = TOKENS) -> list[np.ndarray]:
    mix = rng.normal(size=(count, IN, IN))  # inputs of a real layer are correlated
    return [rng.normal(size=(tokens, IN)) @ mix[i] for i in range(count)]


def gram(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x.T @ x / len(x))


def test_fisher_is_the_precision_weighted_mean(rng: np.random.Generator) -> None:
    tensors = weights_of(rng, 3)
    fishers = [torch.from_numpy(rng.exponential(size=(OUT, IN))) for _ in tensors]
    shares = (0.2, 1.0, 3.0)
    found = merge("fisher", tensors, fishers, weight=shares)
    wanted = reference.fisher_merge(
        [t.numpy() for t in tensors], [f.numpy() for f in fishers], shares
    )
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-13)


def test_equal_fishers_give_the_mean(rng: np.random.Generator) -> None:
    tensors = weights_of(rng)
    same = torch.from_numpy(rng.exponential(size=(OUT, IN)))
    found = merge("fisher", tensors, [same, same], weight=(1.0, 3.0))
    torch.testing.assert_close(found, 0.25 * tensors[0] + 0.75 * tensors[1])


def test_elements_without_information_take_the_mean(rng: np.random.Generator) -> None:
    tensors = weights_of(rng)
    fishers = [torch.zeros(OUT, IN), torch.zeros(OUT, IN)]
    fishers[0][0], fishers[1][1] = 1.0, 1.0
    found = merge("fisher", tensors, fishers)
    torch.testing.assert_close(found[0], tensors[0][0])
    torch.testing.assert_close(found[1], tensors[1][1])
    torch.testing.assert_close(found[2:], (tensors[0] + tensors[1])[2:] / 2)


def test_regmean_is_the_least_squares_solution(rng: np.random.Generator) -> None:
    tensors, inputs, shares = weights_of(rng, 3), inputs_of(rng, 3), (1.0, 0.5, 2.0)
    found = merge("regmean", tensors, [gram(x) for x in inputs], weight=shares)
    wanted = reference.regmean_by_least_squares([t.numpy() for t in tensors], inputs, shares)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)


def test_regmean_is_the_closed_form_with_reduced_non_diagonals(rng: np.random.Generator) -> None:
    tensors, inputs = weights_of(rng), inputs_of(rng)
    for ratio in (0.0, 0.1, 0.9):
        found = merge(
            "regmean", tensors, [gram(x) for x in inputs], reduce_non_diagonal_ratio=ratio
        )
        wanted = reference.regmean([t.numpy() for t in tensors], inputs, ratio)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10)


@pytest.mark.parametrize("eps", [0.0, 0.3])
def test_the_gradient_of_the_objective_vanishes(rng: np.random.Generator, eps: float) -> None:
    tensors, inputs, ratio = weights_of(rng), inputs_of(rng), 0.9
    shares = (0.25, 0.75)
    found = merge(
        "regmean", tensors, [gram(x) for x in inputs], weight=shares,
        reduce_non_diagonal_ratio=ratio, eps=eps,
    )  # fmt: skip
    grams = [torch.from_numpy(reference.reduced_gram(x, ratio)) for x in inputs]

    def objective(weight: torch.Tensor) -> torch.Tensor:
        fit = torch.zeros((), dtype=torch.float64)
        for share, tensor, each in zip(shares, tensors, grams, strict=True):
            fit = fit + share * torch.trace((weight - tensor) @ each @ (weight - tensor).T)
        mean = shares[0] * tensors[0] + shares[1] * tensors[1]
        diagonal = shares[0] * grams[0].diagonal() + shares[1] * grams[1].diagonal()
        return fit + eps * ((weight - mean) ** 2 * diagonal).sum()

    gradient = torch.func.grad(objective)
    scale = gradient(tensors[0]).abs().max()
    assert gradient(found).abs().max() < 1e-12 * scale
    assert scale > 1


def test_weights_stored_in_out_are_merged_the_same(rng: np.random.Generator) -> None:
    square = [torch.from_numpy(rng.normal(size=(IN, IN))) for _ in range(2)]
    grams = [gram(x) for x in inputs_of(rng)]
    for tensors in (weights_of(rng), square):
        plain = merge("regmean", tensors, grams)
        turned = merge("regmean", [t.T for t in tensors], [g.unsqueeze(0) for g in grams])
        torch.testing.assert_close(turned.T, plain)


def test_where_no_input_goes_regmean_stays_nearest_to_the_mean(rng: np.random.Generator) -> None:
    tensors, inputs = weights_of(rng), inputs_of(rng, tokens=2)  # 4 tokens span 4 of 7 directions
    inputs = [np.where(np.arange(IN) == 3, 0, x) for x in inputs]  # and one input is always zero
    grams = [gram(x) for x in inputs]
    found = merge("regmean", tensors, grams, eps=1e-9)
    for x, tensor in zip(inputs, tensors, strict=True):
        rows = torch.from_numpy(x)
        torch.testing.assert_close(rows @ found.T, rows @ tensor.T, rtol=1e-6, atol=1e-6)
    mean = (tensors[0] + tensors[1]) / 2
    torch.testing.assert_close(found[:, 3], mean[:, 3])
    unseen = torch.from_numpy(np.linalg.svd(np.concatenate(inputs))[2][4:])
    metric = (grams[0] + grams[1]).diagonal()
    moved = merge("regmean", tensors, grams, eps=1e-4) - mean  # so at any size of the ridge
    assert (moved @ (metric * unseen).T).abs().max() < 1e-9


def test_float32_grams_of_few_tokens_can_be_solved(rng: np.random.Generator) -> None:
    wide = 200
    tensors = [torch.from_numpy(rng.normal(size=(OUT, wide))).float() for _ in range(2)]
    inputs = [rng.normal(size=(20, wide)) * np.logspace(-3, 3, wide) for _ in tensors]
    default = METHODS.get("regmean").parameters["eps"].default
    found = merge("regmean", tensors, [gram(x).float() for x in inputs], eps=default)
    for x, tensor in zip(inputs, tensors, strict=True):
        wanted = x @ tensor.double().numpy().T
        np.testing.assert_allclose(x @ found.double().numpy().T, wanted, atol=1e-3 * wanted.std())


def test_inputs_of_very_different_size_do_no_harm(rng: np.random.Generator) -> None:
    tensors, size = weights_of(rng), np.logspace(-4, 4, IN)
    inputs = inputs_of(rng)
    plain = merge("regmean", tensors, [gram(x) for x in inputs], eps=1e-5)
    scaled = merge(
        "regmean", [t / torch.from_numpy(size) for t in tensors],
        [gram(x * size) for x in inputs], eps=1e-5,
    )  # fmt: skip
    torch.testing.assert_close(scaled * torch.from_numpy(size), plain)


@pytest.mark.parametrize("name", ["fisher", "regmean"])
def test_without_statistics_the_weighted_mean(name: str, rng: np.random.Generator) -> None:
    tensors = weights_of(rng)
    wanted = 0.25 * tensors[0] + 0.75 * tensors[1]
    some = gram(inputs_of(rng)[0]) if name == "regmean" else torch.ones(OUT, IN)
    for statistics in ((), (None, None), (some, None)):
        torch.testing.assert_close(merge(name, tensors, statistics, weight=(1.0, 3.0)), wanted)


@pytest.mark.parametrize("name", ["fisher", "regmean"])
def test_equal_weights_and_one_model_are_returned(name: str, rng: np.random.Generator) -> None:
    tensor = weights_of(rng, 1)[0].float()
    if name == "fisher":
        held = [torch.from_numpy(rng.exponential(size=(OUT, IN))).float() for _ in range(2)]
    else:
        held = [gram(x).float() for x in inputs_of(rng)]
    assert merge(name, [tensor, tensor], held, weight=(0.5, 0.5)).equal(tensor)
    assert merge(name, [tensor], held[:1], weight=(0.5,)).equal(tensor)


@pytest.mark.parametrize("name", ["fisher", "regmean"])
def test_the_order_of_models_is_irrelevant(name: str, rng: np.random.Generator) -> None:
    tensors, shares = weights_of(rng, 3), (1.0, 2.0, 0.5)
    if name == "fisher":
        held = [torch.from_numpy(rng.exponential(size=(OUT, IN))) for _ in tensors]
    else:
        held = [gram(x) for x in inputs_of(rng, 3)]
    forward = merge(name, tensors, held, weight=shares)
    backward = merge(name, tensors[::-1], held[::-1], weight=shares[::-1])
    torch.testing.assert_close(forward, backward)
    assert not any(t.equal(forward) for t in tensors)


def test_statistics_of_another_model_are_refused(rng: np.random.Generator) -> None:
    tensors = weights_of(rng)
    with pytest.raises(IncompatibleModelsError, match="Gram matrix of shape"):
        merge("regmean", tensors, [torch.eye(IN + 1)] * 2)
    with pytest.raises(IncompatibleModelsError, match="Gram matrix of shape"):
        merge("regmean", [t[0] for t in tensors], [torch.eye(IN)] * 2)
    with pytest.raises(IncompatibleModelsError, match="not positive definite"):
        merge("regmean", tensors, [torch.eye(IN) - 2] * 2)
    with pytest.raises(IncompatibleModelsError, match="Fisher of shape"):
        merge("fisher", tensors, [torch.ones(IN, OUT)] * 2)
    with pytest.raises(IncompatibleModelsError, match="negative"):
        merge("fisher", tensors, [-torch.ones(OUT, IN)] * 2)
