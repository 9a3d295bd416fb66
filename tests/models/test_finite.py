"""All numbers of a tensor are looked at, whatever its dtype."""

from __future__ import annotations

import math

import pytest
import torch

from miscible.models.finite import all_finite


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1000, 4998])
def test_one_number_of_many(dtype: torch.dtype, bad: float, place: int) -> None:
    tensor = torch.linspace(-9, 9, 4999).to(dtype).reshape(4999, 1)
    assert all_finite(tensor)
    tensor[place] = bad
    assert not all_finite(tensor)


def test_what_is_empty_or_whole_is_finite() -> None:
    assert all_finite(torch.empty(0, 3))
    assert all_finite(torch.tensor([True, False]))
    assert all_finite(torch.arange(3))
    assert all_finite(torch.ones(2, requires_grad=True))
    assert not all_finite(torch.tensor(math.nan))
