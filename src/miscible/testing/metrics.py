"""The laws that every metric of two models obeys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np

from miscible.measure.contract import (
    METRICS,
    ActivationPair,
    GradientPair,
    Gram,
    Metric,
    MidpointPair,
    Pair,
    Value,
)
from miscible.measure.sketch import take_sketch
from miscible.models.checkpoint import Checkpoint
from miscible.models.memory import MemoryCheckpoint

SHAPES = {
    "embed_tokens.weight": (14, 8),
    "layers.0.self_attn.q_proj.weight": (8, 8),
    "layers.0.mlp.up_proj.weight": (12, 8),
    "layers.1.mlp.down_proj.weight": (8, 12),
    "norm.weight": (8,),
}
VARIANTS = ("own", "partner", "union")
WIDTH = 6


def check_metric(name: str, *, seed: int = 0) -> None:
    """Run every law on the registered metric *name* with random models.

    Raises:
        AssertionError: naming the law that does not hold.
    """
    metric = METRICS.get(name)
    for law in LAWS:
        law(metric, seed)


def values_are_numbers_or_reasons(metric: Metric, seed: int) -> None:
    """Every pair has a finite number within the range, or a sentence that says why not."""
    for pair in _pairs(seed).values():
        _sound(metric, pair)


def identical_and_opposite_models_have_values(metric: Metric, seed: int) -> None:
    """A metric is defined of random models, of a model and its copy, and of its opposite.

    Metrics of activations or gradients may ask for more than these pairs have, and say so.
    """
    pairs = _pairs(seed)
    allowed = {"ok"} if metric.needs == "weights" else {"ok", "excluded"}
    for kind in ("m0 m1", "m0 copy", "m0 opposite"):
        value = _sound(metric, pairs[kind])
        assert value.status in allowed, f"{metric.name}: {kind}: {value.reason}"


def symmetry_is_as_declared(metric: Metric, seed: int) -> None:
    """(a, b) and (b, a) give the same, unless the metric says otherwise."""
    if not metric.symmetric:
        return
    pairs = _pairs(seed)
    for kind, pair in pairs.items():
        first, second = kind.split()
        _same(metric(pair), metric(pairs[f"{second} {first}"]), f"{metric.name}: symmetry: {kind}")


def order_of_tensors_does_not_matter(metric: Metric, seed: int) -> None:
    """The order in which a checkpoint lists its tensors changes nothing."""
    for kind, pair in _pairs(seed).items():
        backwards = replace(pair, tensors=pair.tensors[::-1])
        _same(metric(pair), metric(backwards), f"{metric.name}: order: {kind}")


def names_of_models_do_not_matter(metric: Metric, seed: int) -> None:
    """What the models are called changes nothing, and the same pair gives the same again."""
    for kind, pair in _pairs(seed).items():
        renamed = replace(pair, a="first", b="second")
        _same(metric(pair), metric(renamed), f"{metric.name}: names: {kind}")


def parts_that_are_missing_are_told(metric: Metric, seed: int) -> None:
    """Without what it needs a metric has no value, and does not break."""
    pair = _pairs(seed)["m0 m1"]
    for bare in (
        Pair("a", "b"),
        replace(pair, tensors=(), activations=None, gradients=None, midpoints=None),
    ):
        value = metric(bare)
        assert value.status in ("undefined", "excluded"), f"{metric.name}: nothing to read"
        _complete(metric, value)


LAWS = (
    values_are_numbers_or_reasons,
    identical_and_opposite_models_have_values,
    symmetry_is_as_declared,
    order_of_tensors_does_not_matter,
    names_of_models_do_not_matter,
    parts_that_are_missing_are_told,
)


def _sound(metric: Metric, pair: Pair) -> Value:
    value = metric(pair)
    _complete(metric, value)
    if value.status == "ok":
        inside = metric.low <= value.value <= metric.high
        assert inside, f"{metric.name}: {value.value} is outside of its range"
    assert value.status != "failed", f"{metric.name}: {value.reason}"
    return value


def _complete(metric: Metric, value: Value) -> None:
    assert 0 <= value.coverage <= 1, f"{metric.name}: a coverage of {value.coverage}"
    assert value.noise is None or 0 <= value.noise < math.inf, f"{metric.name}: {value.noise}"
    if value.status == "ok":
        assert math.isfinite(value.value), f"{metric.name}: {value.value} is called ok"
    else:
        assert math.isnan(value.value), f"{metric.name}: a value that is {value.status}"
        assert value.reason, f"{metric.name}: {value.status} for no reason"


def _same(one: Value, two: Value, law: str) -> None:
    assert one.status == two.status, f"{law}: {one.status} and {two.status}"
    close = math.isclose(one.value, two.value, rel_tol=1e-6, abs_tol=1e-7)
    assert close or one.status != "ok", f"{law}: {one.value} and {two.value}"


def _pairs(seed: int) -> Mapping[str, Pair]:
    """Return pairs of random models, and of their copies, opposites and the base."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def draw(scale: float) -> dict[str, torch.Tensor]:
        return {
            name: scale * torch.randn(shape, generator=generator, dtype=torch.float64)
            for name, shape in SHAPES.items()
        }

    base = draw(1.0)
    changes = {"m0": draw(0.1), "m1": draw(0.2)}
    changes["copy"] = changes["m0"]
    changes["opposite"] = {name: -change for name, change in changes["m0"].items()}
    changes["zero"] = {name: torch.zeros_like(tensor) for name, tensor in base.items()}
    models: dict[str, Checkpoint] = {
        model: MemoryCheckpoint(model, {name: base[name] + change[name] for name in base})
        for model, change in changes.items()
    }
    sketch = take_sketch(MemoryCheckpoint("base", base), models)
    vectors = _vectors(seed)
    names = list(models)
    return {
        f"{names[a]} {names[b]}": replace(
            sketch.pair(a, b),
            activations=_activations(vectors[names[a]], vectors[names[b]]),
            gradients=_gradients(vectors[names[a]], vectors[names[b]]),
            midpoints=_midpoints(vectors[names[a]], vectors[names[b]]),
        )
        for a, b in product(range(len(names)), repeat=2)
        if a != b
    }


def _vectors(seed: int) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    generator = np.random.default_rng(seed)
    first, second = generator.normal(size=(2, WIDTH))
    return {
        "m0": first, "m1": second, "copy": first, "opposite": -first, "zero": np.zeros(WIDTH),
    }  # fmt: skip


def _activations(
    one: np.ndarray[tuple[int], np.dtype[np.float64]],
    two: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> ActivationPair:
    cosine = Gram.of(one.tolist(), two.tolist()).cosine
    return ActivationPair(
        np.stack([one, two]), samples=8, tokens=64, more={"cka": np.array([cosine**2])}
    )


def _midpoints(
    one: np.ndarray[tuple[int], np.dtype[np.float64]],
    two: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> MidpointPair:
    middle = (one + two) / 2
    halves = [float(middle @ middle - each @ each) for each in (one, two)]
    return MidpointPair(halves[0], halves[1])


def _gradients(
    one: np.ndarray[tuple[int], np.dtype[np.float64]],
    two: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> GradientPair:
    gram = Gram.of(one.tolist(), two.tolist())
    return GradientPair(
        {f"{part}/{kind}": gram for part, kind in product(("encoder", "input"), VARIANTS)},
        samples=8,
    )
