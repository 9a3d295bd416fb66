"""Methods that choose between models element by element equal their references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from miscible.errors import RecipeError
from miscible.merge.ops.importance import order_statistics
from references import selective
from references.calling import arrays, merged

seeds = st.integers(0, 2**31)


def models(seed: int, shape: tuple[int, ...] = (6, 8)) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Three models that differ from their base in half of their elements, and the base."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randint(-8, 9, shape, generator=generator).double() / 4
    found = []
    for _ in range(3):
        delta = torch.randint(-6, 7, shape, generator=generator).double() / 16
        found.append(base + delta * (torch.rand(shape, generator=generator) < 0.5))
    return found, base


def deltas_of(seed: int) -> list[np.ndarray]:
    found, base = models(seed)
    return arrays([model - base for model in found])


def near(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([0.0, 0.1, 0.35, 0.8, 1.0]))
def test_sce(seed: int, share: float) -> None:
    found, base = models(seed)
    if share == 0.0:
        assert merged("sce", found, base=base, select_topk=share).equal(base)
        return
    expected = base.numpy() + selective.sce(deltas_of(seed), share)
    near(merged("sce", found, base=base, select_topk=share), expected)


@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_sce_knows_no_smallest_delta(scale: float) -> None:
    """The weights are shares, so that the size of all deltas together does not matter."""
    deltas = [delta * scale for delta in deltas_of(1)]
    found = merged("sce", [torch.from_numpy(d) for d in deltas], base=torch.zeros(6, 8).double())
    np.testing.assert_allclose(found.numpy() / scale, selective.sce(deltas_of(1)), atol=1e-10)


def test_sce_does_not_select_what_all_models_share() -> None:
    base = torch.zeros(3)
    one, two = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.1, 0.2, 0.7])
    found = merged("sce", [one, two, one], base=base, select_topk=0.999)
    assert not found.any()  # int(0.999 * 1) positions
    three = torch.tensor([0.1, 0.5, 0.7])
    assert merged("sce", [one, two, three], base=base, select_topk=0.999).nonzero().tolist() == [
        [2]
    ]


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_ram(seed: int) -> None:
    found, base = models(seed)
    near(merged("ram", found, base=base), base.numpy() + selective.ram(deltas_of(seed), 1e-5))
    expected = base.numpy() + selective.ram(deltas_of(seed), 0.1, 0.5, 0.4)
    near(merged("ramplus_tl", found, base=base, epsilon=0.1, r=0.5, alpha=0.4), expected)
    plain = merged("ram", found, base=base, epsilon=0.1)
    near(merged("ramplus_tl", found, base=base, epsilon=0.1, r=0.0), plain.numpy())


def test_ram_of_one_model_drops_what_counts_as_unchanged() -> None:
    delta = torch.tensor([0.5, 0.25, -0.75, 0.0])
    found = merged("ram", [delta], base=torch.zeros(4), epsilon=0.5)
    assert found.tolist() == [0.0, 0.0, -0.75, 0.0]


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([-1.0, 0.0, 1e-7, 0.1, 5.0]))
def test_nearswap(seed: int, t: float) -> None:
    (model, *_), base = models(seed)
    expected = base.numpy() + selective.nearswap((model - base).numpy(), t)
    near(merged("nearswap", [model], base=base, t=t), expected)


def test_nearswap_takes_one_model() -> None:
    found, base = models(0)
    with pytest.raises(RecipeError, match="2 models"):
        merged("nearswap", found[:2], base=base, t=0.1)


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([(6, 8), (5, 7), (3, 2, 5), (13,)]))
def test_arcee_fusion(seed: int, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=generator, dtype=torch.float64)
    model = base + 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    found = merged("arcee_fusion", [model], base=base)
    near(found, selective.arcee_fusion(base.numpy(), model.numpy()))


@pytest.mark.parametrize("shape", [(), (5, 1)])
def test_arcee_fusion_of_rows_of_one_element(shape: tuple[int, ...]) -> None:
    base = torch.zeros(shape)
    assert merged("arcee_fusion", [base + 1], base=base).equal(base + 1)  # all are as important


def test_arcee_fusion_sees_small_differences_in_float32() -> None:
    """Divergences of rows that differ by 1e-4 drown in the rounding of a float32 softmax."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(64, 512, generator=generator)
    model = base + 1e-4 * torch.randn(64, 512, generator=generator)
    found = merged("arcee_fusion", [model], base=base)
    expected = selective.arcee_fusion(base.double().numpy(), model.double().numpy())
    assert np.count_nonzero(found.numpy() != expected) <= 2  # at the threshold itself


def test_order_statistics() -> None:
    values = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0, 0.0])
    assert order_statistics(values, (0.0, 0.25, 0.5, 0.75, 1.0)) == [0.0, 1.0, 2.0, 3.0, 5.0]
