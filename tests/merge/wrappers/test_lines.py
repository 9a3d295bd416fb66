"""LiNeS scales a merged task vector with depth."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from merge.methods.direct import task_vectors
from miscible.merge.contract import METHODS, REQUIRED, WRAPPERS, Context, Delta, Deltas, Site
from miscible.merge.ops.consensus import plain_sum

LINES = WRAPPERS.get("lines")


def add(deltas: Deltas) -> Delta:
    return plain_sum(deltas, [1.0] * len(deltas), normalize=False)


def scaled(site: Site, alpha: float, beta: float, merge: Callable[[Deltas], Delta]) -> torch.Tensor:
    deltas = Deltas(task_vectors(2))
    return LINES(deltas, merge, {"alpha": alpha, "beta": beta}, Context(site)).tensor


@pytest.mark.parametrize("layer", range(5))
def test_the_factor_grows_linearly_over_the_layers(layer: int) -> None:
    # 2410.17146: alpha + beta (l - 1) / (L - 1), with layers l from 1 to L = 5.
    site = Site("w", layer, 5, layer / 4)
    wanted = add(Deltas(task_vectors(2))).tensor * (0.2 + 0.8 * layer / 4)
    assert torch.allclose(scaled(site, 0.2, 0.8, add), wanted, rtol=1e-14)


def test_alpha_1_and_beta_0_change_nothing() -> None:
    whole = add(Deltas(task_vectors(2))).tensor
    assert scaled(Site("w", 1, 3, 0.5), 1.0, 0.0, add).equal(whole)


def test_it_wraps_any_method_on_deltas() -> None:
    ties = METHODS.get("ties")
    values = {name: p.default for name, p in ties.parameters.items()}
    values |= {"weight": (1.0, 1.0), "density": (0.5, 0.5)}
    context = Context(Site("w", 2, 3, 1.0))

    def merge(deltas: Deltas) -> Delta:
        found = ties(deltas, values, context)
        assert isinstance(found, Delta)
        return found

    whole = merge(Deltas(task_vectors(2))).tensor
    assert torch.allclose(scaled(context.site, 0.5, 1.0, merge), 1.5 * whole, rtol=1e-14)


def test_declaration() -> None:
    assert LINES.streams
    assert LINES.paper == "2410.17146"
    assert {name: p.default for name, p in LINES.parameters.items()} == {
        "alpha": REQUIRED,
        "beta": REQUIRED,
    }
