"""How the singular vectors of two task vectors overlap, matrix by matrix (2601.22285, "subspace").

A metric is the unweighted mean over the 2-D tensors of both models. A tensor that neither model
changes is left out; one that only one of them changes counts as no overlap, 0. The paper's code
counts tensors that neither changes with the constants that a decomposition of zeros gives;
``compat`` does the same. k is 10, or less where one of the two matrices has a lower rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from miscible.measure.contract import Overlap, Pair, Spectra, TensorPair, Value, metric, undefined

PAPER = "2601.22285"
CATEGORY = "subspace"
Part = Callable[[Spectra], Overlap | None]
Reading = Callable[[Overlap], float]


@metric("singular_value_overlap", category=CATEGORY, low=0, high=1, paper=PAPER, parts=("spectra",))
def singular_value_overlap(pair: Pair) -> Value:
    """Cosine of the first 100 singular values of both."""
    held = _decomposed(pair)
    if isinstance(held, Value):
        return held
    values = [spectra.spectrum_cosine for _, spectra in held]
    return Value(sum(values) / len(values), coverage=_coverage(pair, held))


@metric("subspace_overlap", category=CATEGORY, low=0, high=1, paper=PAPER, parts=("spectra",))
def subspace_overlap(pair: Pair) -> Value:
    """|U1^T U2|_F / k of the first k left singular vectors; 1 / sqrt(k) at most."""
    return _mean(
        pair, lambda s: s.left_top, lambda o: math.sqrt(o.squared) / o.k, 1 / math.sqrt(10)
    )


@metric(
    "right_subspace_overlap_top_k",
    category=CATEGORY,
    low=0,
    high=1,
    paper=PAPER,
    parts=("spectra",),
)
def right_subspace_overlap_top_k(pair: Pair) -> Value:
    """|V1^T V2|_F / sqrt(k) of the first k right singular vectors."""
    return _mean(pair, lambda s: s.right_top, lambda o: math.sqrt(o.squared / o.k))


@metric(
    "right_subspace_overlap_bottom_k", category=CATEGORY, low=0, high=1, paper=PAPER,
    parts=("spectra",),
)  # fmt: skip
def right_subspace_overlap_bottom_k(pair: Pair) -> Value:
    """|V1^T V2|_F / sqrt(k) of the last k right singular vectors: often noise."""
    return _mean(pair, lambda s: s.right_bottom, lambda o: math.sqrt(o.squared / o.k))


@metric(
    "interaction_matrix_overlap_top_k", category=CATEGORY, low=0, high=1, paper=PAPER,
    parts=("spectra",),
)  # fmt: skip
def interaction_matrix_overlap_top_k(pair: Pair) -> Value:
    """Mean squared singular value of V1^T V2, of the first k right singular vectors."""
    return _mean(pair, lambda s: s.right_top, lambda o: o.squared / o.k)


@metric(
    "interaction_matrix_overlap_bottom_k", category=CATEGORY, low=0, high=1, paper=PAPER,
    parts=("spectra",),
)  # fmt: skip
def interaction_matrix_overlap_bottom_k(pair: Pair) -> Value:
    """Mean squared singular value of V1^T V2, of the last k right singular vectors: often noise."""
    return _mean(pair, lambda s: s.right_bottom, lambda o: o.squared / o.k)


_Held = list[tuple[TensorPair, Spectra]]


def _decomposed(pair: Pair) -> _Held | Value:
    matrices = [(tensor, tensor.spectra) for tensor in pair.tensors if tensor.spectra is not None]
    held = [(t, s) for t, s in matrices if pair.compat or s.rank_a or s.rank_b]
    for name, ranks in (
        (pair.a, [s.rank_a for _, s in held]),
        (pair.b, [s.rank_b for _, s in held]),
    ):
        if not any(ranks) and not pair.compat:
            return undefined(f"{name} changes no 2-D tensor of the base.")
    return held or undefined("the models have no 2-D tensor in common.")


def _mean(pair: Pair, part: Part, reading: Reading, of_zeros: float = 1.0) -> Value:
    held = _decomposed(pair)
    if isinstance(held, Value):
        return held
    entered: _Held = []
    values, noise = [], []
    for tensor, spectra in held:
        if not spectra.rank_a and not spectra.rank_b:
            overlap, value = (
                None,
                of_zeros,
            )  # in compat: a decomposition of zeros gives unit vectors
        elif not spectra.rank_a or not spectra.rank_b:
            overlap, value = None, 0.0
        else:
            overlap = part(spectra)
            if overlap is None:
                continue
            value = reading(overlap)
        entered.append((tensor, spectra))
        values.append(value)
        noise.append(overlap.noise if overlap else 0.0)
    if not entered:
        return undefined("no matrix has full rank in both, so that its last vectors are arbitrary.")
    mean = Value(sum(values) / len(values), coverage=_coverage(pair, entered))
    return replace(mean, noise=sum(noise) / len(noise))


def _coverage(pair: Pair, held: _Held) -> float:
    return pair.coverage(sum(tensor.size for tensor, _ in held))
