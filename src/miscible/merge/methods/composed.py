"""Methods on task vectors, put together from their factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from miscible.merge.contract import METHODS, PerModel, merge_method, per_model, shared
from miscible.merge.ops.factors import CONSENSUS, DIVISIBLE, SPARSIFIERS
from miscible.merge.spaces import Delta, Deltas

if TYPE_CHECKING:
    from miscible.merge.ops.random import ElementRandom


def _fits_together(values: Mapping[str, Any]) -> str | None:
    consensus, sparsify = values["consensus"], values["sparsify"]
    if values["normalize"] and consensus not in DIVISIBLE:
        return (
            f"'normalize: true' means nothing to the consensus {consensus!r} of composed. "
            f"Remove it, or take one of {', '.join(sorted(DIVISIBLE))}."
        )
    if consensus == "median" and min(values["weight"]) < 0:
        return "the consensus 'median' of composed takes no negative weight. Change the weight."
    if sparsify == "none" and min(values["density"]) < 1:
        return (
            "composed has a density below 1, but nothing that drops elements. Set 'sparsify' to "
            f"one of {', '.join(name for name in SPARSIFIERS if name != 'none')}."
        )
    if sparsify == "rank":
        check = METHODS.get("della").check
        return check(values) if check else None
    return None


@merge_method(
    "composed",
    paper="2212.04089",
    check=_fits_together,
    streams=lambda values: values["consensus"] in DIVISIBLE,
)
def composed(
    deltas: Deltas,
    *,
    random: Sequence[ElementRandom],
    sparsify: str = shared("random", choices=tuple(SPARSIFIERS)),
    consensus: str = shared("sum", choices=tuple(CONSENSUS)),
    weight: PerModel[float] = per_model(1.0),
    density: PerModel[float] = per_model(1.0, low=0.0, high=1.0),
    epsilon: PerModel[float] = per_model(0.15, low=0.0),
    gamma: PerModel[float] = per_model(0.01, low=0.0, high=1.0),
    rescale: bool = shared(False),
    normalize: bool = shared(False),
    lambda_: float = shared(1.0),
) -> Delta:
    """Compose a method of its factors: which elements stay, and how models come to agree.

    =============== ========= ========= ======= =========
    equals          sparsify  consensus rescale normalize
    =============== ========= ========= ======= =========
    task_arithmetic none      sum       false   false
    ties            magnitude signs     false   true
    dare_linear     random    sum       true    false
    dare_ties       random    signs     true    false
    della_linear    rank      sum       true    false
    della           rank      signs     true    true
    breadcrumbs     band      sum       false   false
    breadcrumbs_ties band     signs     false   false
    magmax          none      largest   false   false
    emr             none      unified   false   false
    geometric_median none     median    false   false
    =============== ========= ========= ======= =========

    See `miscible.merge.ops.factors` for what the names mean. *density* has the sparsifier's
    meaning, *epsilon* belongs to ``rank`` and *gamma* to ``band``. With *rescale* each task vector
    gets back the L1 norm that it had.
    """
    make = SPARSIFIERS[sparsify]
    kept = deltas
    if sparsify != "none":
        sparsifiers = [make(*shares) for shares in zip(density, epsilon, gamma, strict=True)]
        kept = deltas.sparsified(sparsifiers, random, rescale=rescale)
    return CONSENSUS[consensus](kept, weight, normalize).scaled(lambda_)
