"""Derivatives in float64 against those of autograd."""

from __future__ import annotations

import pytest
import torch

from miscible.probe.fit.exact import derivative


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_derivatives_are_those_of_autograd(precision: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(250, 30, generator=generator, dtype=precision)
    labels = torch.randint(5, (250,), generator=generator)
    weights = torch.randn(5, 30, generator=generator, dtype=torch.float64, requires_grad=True)
    free = torch.linspace(-1, 1, 5, dtype=torch.float64, requires_grad=True)
    scores = rows.double() @ weights.mT + free
    loss = torch.nn.functional.cross_entropy(scores, labels, reduction="sum")
    (loss + 0.1 / 2 * weights.square().sum()).backward()
    found = derivative(rows, labels, weights.detach(), free.detach(), 0.1)
    torch.testing.assert_close(found.weights, weights.grad, atol=1e-10, rtol=0)
    torch.testing.assert_close(found.intercepts, free.grad, atol=1e-10, rtol=0)
    torch.testing.assert_close(found.chances, scores.softmax(dim=1).mT, atol=1e-12, rtol=0)
