"""Composed methods: named methods are points of the space, to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from merge.methods.direct import run, task_vectors
from miscible.merge.contract import METHODS
from miscible.merge.ops.factors import CONSENSUS, SPARSIFIERS

SHARES: dict[str, Any] = {"density": [0.3, 0.6, 0.9]}
BAND: dict[str, Any] = SHARES | {"gamma": [0.01, 0.1, 0.0]}
RANK: dict[str, Any] = {"density": [0.3, 0.6, 0.8], "epsilon": [0.15, 0.1, 0.0]}
POINTS: dict[str, tuple[tuple[str, str, bool, bool], dict[str, Any]]] = {
    "task_arithmetic": (("none", "sum", False, False), {}),
    "ties": (("magnitude", "signs", False, True), SHARES),
    "dare_linear": (("random", "sum", True, False), SHARES),
    "dare_ties": (("random", "signs", True, False), SHARES),
    "della_linear": (("rank", "sum", True, False), RANK),
    "della": (("rank", "signs", True, True), RANK),
    "breadcrumbs": (("band", "sum", False, False), BAND),
    "breadcrumbs_ties": (("band", "signs", False, False), BAND),
    "magmax": (("none", "largest", False, False), {}),
    "emr": (("none", "unified", False, False), {}),
    "geometric_median": (("none", "median", False, False), {}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", POINTS)
def test_a_named_method_is_a_point(name: str, dtype: torch.dtype) -> None:
    (sparsify, consensus, rescale, normalize), own = POINTS[name]
    taus = task_vectors(3, (12, 10), dtype=dtype)
    common = own | {"weight": [1.0, 0.5, 2.0], "lambda_": 0.7}
    found = run(
        "composed",
        taus,
        sparsify=sparsify,
        consensus=consensus,
        rescale=rescale,
        normalize=normalize,
        **common,
    )
    assert found.any()
    assert found.equal(run(name, taus, **common))


def test_points_use_every_factor() -> None:
    factors = [factors for factors, _ in POINTS.values()]
    assert {sparsify for sparsify, *_ in factors} == set(SPARSIFIERS)
    assert {consensus for _, consensus, *_ in factors} == set(CONSENSUS)


def test_one_changed_factor_is_another_method() -> None:
    taus = task_vectors()
    values: dict[str, Any] = {"density": 0.3, "consensus": "signs", "normalize": True}
    by_magnitude = run("composed", taus, sparsify="magnitude", **values)
    at_random = run("composed", taus, sparsify="random", **values)
    assert by_magnitude.equal(run("ties", taus, density=0.3))
    assert not at_random.equal(by_magnitude)


def test_what_streams() -> None:
    method = METHODS.get("composed")
    streamed = {name for name in CONSENSUS if method.can_stream({"consensus": name})}
    assert streamed == {"sum", "signs"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"consensus": "largest", "normalize": True}, "'normalize: true' means nothing"),
        ({"consensus": "median", "weight": (1.0, -1.0)}, "no negative weight"),
        ({"sparsify": "none", "density": (1.0, 0.5)}, "Set 'sparsify'"),
        ({"sparsify": "random", "density": (1.0, 0.5)}, None),
        ({"sparsify": "rank", "density": (0.5, 0.1)}, "Lower 'epsilon'"),
        ({"sparsify": "rank", "density": (0.5, 0.2)}, None),
        ({}, None),
    ],
)
def test_factors_that_do_not_go_together(values: dict[str, Any], message: str | None) -> None:
    method = METHODS.get("composed")
    assert method.check is not None
    full = {name: parameter.default for name, parameter in method.parameters.items()}
    full |= {"weight": (1.0, 1.0), "density": (1.0, 1.0), "epsilon": (0.15, 0.15)} | values
    found = method.check(full)
    assert found is None if message is None else message in (found or "")
