"""Gradient metrics (2601.22285): gradients of both models' mean loss on the same inputs.

The loss is the true one: a language model's, or that of a classifier's own head.

g is the gradient with respect to all shared parameters (``encoder_gradient``), q that with respect
to the input, which for language models is the embedded tokens (``input_gradient``). A metric's own
name means the data of both models; ``..._own`` and ``..._partner`` mean those of the pair's first
and second model, where models came with data of their own.

Cosine, distance and dot product come from one Gram, so their signs can never disagree. (In the
paper's data each metric drew a random head and other images, and they do in half of all pairs.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

from miscible.measure.contract import Pair, Value, metric
from miscible.measure.gram import Gram
from miscible.measure.trace import KINDS, VARIANTS, Kind, Variant

PAPER = "2601.22285"
_OF: dict[Kind, str] = {"encoder": "all shared parameters", "input": "the input"}
_ON: dict[Variant, str] = {
    "union": "both models' data",
    "own": "the first model's data",
    "partner": "the second model's data",
}
_MEASURES: dict[str, tuple[str, Callable[[Gram], float], float, float]] = {
    "cosine_similarity": ("Cosine", lambda gram: gram.cosine, -1, 1),
    "l2_distance": ("Distance", lambda gram: gram.distance, 0, math.inf),
    "dot_product": ("Dot product", lambda gram: gram.ab, -math.inf, math.inf),
}


def _register(kind: Kind, variant: Variant, measure: str) -> None:
    word, of_gram, low, high = _MEASURES[measure]

    def function(pair: Pair) -> float | Value:
        assert pair.gradients is not None, "the contract asks for it"
        gram = pair.gradients.grams.get(f"{kind}/{variant}")
        if gram is None:
            why = f"no gradient of {_OF[kind]} was measured on {_ON[variant]}."
            return Value(math.nan, "excluded", why, 0.0)
        return Value(of_gram(gram), coverage=pair.gradients.coverage if kind == "encoder" else 1.0)

    suffix = "" if variant == "union" else f"_{variant}"
    name = f"{kind}_gradient_{measure}{suffix}"
    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"{word} of the gradients of the loss with respect to {_OF[kind]}, on {_ON[variant]}."
    )
    metric(
        name, category="gradient", needs="gradients", low=low, high=high,
        symmetric=variant == "union", paper=PAPER if variant == "union" else "",
        by=None if kind == "encoder" else (),
    )(function)  # fmt: skip


for _kind in KINDS:
    for _variant in VARIANTS:
        for _measure in _MEASURES:
            _register(_kind, _variant, _measure)
