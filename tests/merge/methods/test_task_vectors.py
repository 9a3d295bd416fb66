"""Sparsified sums of task vectors equal their references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from miscible.errors import RecipeError
from miscible.merge.ops.random import ElementRandom
from references import task_vectors
from references.calling import arrays, merged

seeds = st.integers(0, 2**31)
shares = st.floats(0.05, 1.0)


def models(seed: int, shape: tuple[int, ...] = (4, 6)) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Three models with many equal magnitudes, and their base."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randint(-8, 9, shape, generator=generator).double()
    deltas = [torch.randint(-6, 7, shape, generator=generator).double() / 4 for _ in range(3)]
    return [base + delta for delta in deltas], base


def check(name: str, seed: int, kept: list[np.ndarray], weight: list[float], normalize: bool,
          **parameters: Any) -> None:  # fmt: skip
    found, base = models(seed)
    total = task_vectors.elected if name.endswith("ties") or name == "della" else (
        task_vectors.weighted)  # fmt: skip
    expected = base.numpy() + 0.7 * total(kept, weight, normalize)
    ours = merged(name, found, base=base, weight=weight, normalize=normalize, lambda_=0.7,
                  **parameters)  # fmt: skip
    np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=1e-12)


def deltas_of(seed: int) -> list[np.ndarray]:
    found, base = models(seed)
    return arrays([model - base for model in found])


@settings(max_examples=20, deadline=None)
@given(seeds, shares, st.booleans(), st.booleans())
def test_ties(seed: int, density: float, normalize: bool, rescale: bool) -> None:
    deltas = deltas_of(seed)
    kept = [task_vectors.keep_largest(d, density) for d in deltas]
    if rescale:
        kept = [task_vectors.restore_l1(k, d) for k, d in zip(kept, deltas, strict=True)]
    check("ties", seed, kept, [1.0, -0.5, 0.25], normalize, density=density, rescale=rescale)


@settings(max_examples=20, deadline=None)
@given(seeds, shares, st.floats(0.0, 0.6), st.booleans())
@pytest.mark.parametrize("name", ["breadcrumbs", "breadcrumbs_ties"])
def test_breadcrumbs(name: str, seed: int, density: float, gamma: float, rescale: bool) -> None:
    deltas = deltas_of(seed)
    kept = [task_vectors.breadcrumbs(d, density, gamma) for d in deltas]
    if rescale:
        kept = [task_vectors.restore_l1(k, d) for k, d in zip(kept, deltas, strict=True)]
    check(name, seed, kept, [1.0, 0.5, 0.25], False, density=density, gamma=gamma, rescale=rescale)


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0.2, 0.8), st.booleans())
@pytest.mark.parametrize("name", ["della", "della_linear"])
def test_della(name: str, seed: int, density: float, rescale: bool) -> None:
    deltas = deltas_of(seed)
    kept = []
    for i, delta in enumerate(deltas):
        words = ElementRandom(0, f"m{i}", "t").words(delta.size).reshape(delta.shape)
        chances = task_vectors.magprune_chances(delta, density, 0.2)
        sparse = delta * (words / 2**32 < chances)
        kept.append(task_vectors.restore_l1(sparse, delta) if rescale else sparse)
    check(name, seed, kept, [1.0, 0.5, 0.25], True, density=density, epsilon=0.2, rescale=rescale)


@settings(max_examples=20, deadline=None)
@given(seeds, shares, st.booleans())
@pytest.mark.parametrize("name", ["dare_linear", "dare_ties"])
def test_dare(name: str, seed: int, density: float, rescale: bool) -> None:
    deltas = deltas_of(seed)
    kept = []
    for i, delta in enumerate(deltas):
        words = ElementRandom(0, f"m{i}", "t").words(delta.size).reshape(delta.shape)
        sparse = delta * (words / 2**32 < density)
        kept.append(task_vectors.restore_l1(sparse, delta) if rescale else sparse)
    check(name, seed, kept, [1.0, 0.5, 0.25], True, density=density, rescale=rescale)


def test_task_arithmetic() -> None:
    check("task_arithmetic", 3, deltas_of(3), [1.0, -0.5, 0.25], True)
    check("task_arithmetic", 3, deltas_of(3), [1.0, -0.5, 0.25], False)
    found, base = models(3)
    both = [merged("task_arithmetic", found[:2], base=base, weight=[0.5, -0.5], normalize=n)
            for n in (True, False)]  # fmt: skip
    assert both[0].equal(both[1])  # weights that cancel divide by 1


def test_della_keeps_by_rank() -> None:
    """Over many rows, each rank survives as often as its chance says."""
    rows, length = 4000, 5
    delta = torch.arange(1.0, length + 1).flip(0).repeat(rows, 1)
    found = merged("della_linear", [delta], base=torch.zeros_like(delta), weight=1.0, density=0.5,
                   epsilon=0.4, rescale=False)  # fmt: skip
    frequency = (found != 0).double().mean(dim=0).numpy()
    chances = np.array([0.9, 0.7, 0.5, 0.3, 0.1])
    assert (np.abs(frequency - chances) < 4 * np.sqrt(chances * (1 - chances) / rows)).all()


def test_della_rows_of_one_element_survive_with_the_density() -> None:
    delta = torch.ones(4000, 1)
    found = merged("della_linear", [delta], base=torch.zeros_like(delta), weight=1.0, density=0.3,
                   rescale=False)  # fmt: skip
    assert abs(found.mean().item() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)


@pytest.mark.parametrize("shape", [(), (1,), (9,), (2, 3, 4)])
def test_sparsifiers_take_any_shape(shape: tuple[int, ...]) -> None:
    found, base = models(5, shape)
    for name in ("della", "della_linear", "breadcrumbs", "breadcrumbs_ties", "ties", "dare_ties"):
        half = {"density": 0.5}
        assert merged(name, found, base=base, weight=0.5, **half).shape == torch.Size(shape)
        assert merged(name, found, base=base, weight=0.5, density=0.0).isfinite().all()


@pytest.mark.parametrize(("density", "epsilon"), [(0.9, 0.2), (0.1, 0.15)])
def test_della_refuses_what_are_no_probabilities(density: float, epsilon: float) -> None:
    found, base = models(1)
    with pytest.raises(RecipeError, match=r"Lower 'epsilon' to 0\.1 or less"):
        merged("della", found, base=base, weight=1.0, density=density, epsilon=epsilon)


@pytest.mark.parametrize(("density", "epsilon"), [(0.85, 0.15), (1.0, 0.15), (0.0, 0.15), (0.3, 0)])
def test_della_takes_the_whole_range(density: float, epsilon: float) -> None:
    found, base = models(1)
    ours = merged("della_linear", found, base=base, weight=1.0, density=density, epsilon=epsilon)
    if density == 1.0:
        assert torch.allclose(ours, sum(found) - 2 * base)
    if density == 0.0:
        assert ours.equal(base)
