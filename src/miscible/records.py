"""Result rows: the only currency between the layers that measure and those that conclude.

Six kinds of row cover every measurement. A *score* is an estimate with its interval; an *item*
is what one test item (a document, a minimal pair) contributed to a score, kept so that models can
be compared on the same items; a *similarity* compares the insides of two models; a *dose* says how
much of a parent a merge contains; a *mergeability* row is one metric of two fine-tunes before any
merge; a *failure* says which cell is missing and why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

Domain: TypeAlias = Literal["behaviour", "internals"]

EMBEDDING_LAYER = 0
"""Layer 0 is the output of the embedding, layer i that of block i; the last one is normalised."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """An estimate for one model, data set, layer and metric.

    Attributes:
        model: name of the model within its study.
        domain: whether the score is of behaviour or of internals.
        dataset: task (behaviour) or probing data set (internals).
        metric: standard name (``acc``, ``bits_per_byte``, ``probe_accuracy``, ``preference``).
        estimate, low, high: the score and its interval, NaN if it could not be had.
        n: number of items.
        layer: layer index (see `EMBEDDING_LAYER`), None where a score has no layer.
        phenomenon, competence: place in the taxonomy of internals.
        baseline: score of the trivial predictor (majority class, chance), NaN if none.
        selectivity: score minus the score of the same probe on control labels, NaN if not asked.
        higher_is_better: direction of the metric.
        flags: comma-separated marks, e.g. ``collapsed``.
    """

    model: str
    domain: Domain
    dataset: str
    metric: str
    estimate: float
    low: float
    high: float
    n: int
    layer: int | None = None
    phenomenon: str = ""
    competence: str = ""
    baseline: float = math.nan
    selectivity: float = math.nan
    higher_is_better: bool = True
    flags: str = ""


@dataclass(frozen=True, slots=True)
class ItemRow:
    """What one test item contributed: a score is the mean of *value* weighted by *weight*.

    Attributes:
        item: identity of the item within the data set, the same for every model.
        cluster: items that are not independent (questions on one passage) share it.
        value: the item's score in the unit of the metric (1 or 0 for accuracy).
        weight: 1 for means over items; the number of bytes for bits per byte.
    """

    model: str
    domain: Domain
    dataset: str
    metric: str
    item: str
    cluster: str
    value: float
    weight: float = 1.0
    layer: int | None = None


@dataclass(frozen=True, slots=True)
class DoseRow:
    """How much of one parent a merge contains, by its weights.

    With task vectors d_i = parent_i - base and m = merge - base over all floating tensors:

    Attributes:
        model, parent: names within the study.
        projection: <m, d_i> / <d_i, d_i>.
        coefficient: i-th coefficient of the least-squares fit of m by all d_i; equal to the
            projection when the task vectors are orthogonal.
        share: coefficient over the sum of all coefficients, NaN if that is 0.
        cosine: cosine of m and d_i.
        residual: |m - fit| / |m|: the part of the merge that lies in no parent's direction.
    """

    model: str
    parent: str
    projection: float
    coefficient: float
    share: float
    cosine: float
    residual: float


@dataclass(frozen=True, slots=True)
class SimilarityRow:
    """How a layer of one model compares with a layer of another, on the same texts.

    Attributes:
        model, other: names within the study: a model, and one that it is compared with. The two
            are equal where a metric describes the model alone.
        metric: ``cka`` (debiased linear CKA, any two layers), ``norm_ratio``, ``cosine``,
            ``relative_distance`` (of the same texts' states), ``effective_rank``,
            ``participation_ratio``, ``anisotropy`` (of one model), ``lens_kl`` (logit-lens KL
            divergence to *other* at the layer, bits), ``lens_gap`` (to the model's own last layer).
        layer, other_layer: see `EMBEDDING_LAYER`; equal for all metrics but ``cka``.
        estimate, low, high: the value and its 95 % interval, NaN if it could not be had.
        n: number of texts or positions.
        flags: comma-separated marks.
    """

    model: str
    other: str
    metric: str
    layer: int
    other_layer: int
    estimate: float
    low: float
    high: float
    n: int
    flags: str = ""


@dataclass(frozen=True, slots=True)
class MergeabilityRow:
    """One metric of two fine-tunes of one base, or a scalar of one (see `miscible.measure`).

    Attributes:
        first, second: names of the models; the second is empty where the value is of one.
        metric, category: of `miscible.measure.contract.METRICS`.
        scope: layer or role of which the value is; empty for whole models.
        value: NaN unless *status* is ``ok``.
        status, reason: ``ok``, or why there is no number.
        coverage: share of the base's parameters that entered.
        sequence: place of the scope in the model, 0 for whole models.
    """

    first: str
    second: str
    metric: str
    category: str
    scope: str
    value: float
    status: str
    reason: str
    coverage: float
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """What was expected of a merge of two parents before it was made (see `miscible.predict`).

    Attributes:
        first, second: names of the parents.
        method: merging method.
        mean, low, high: expected outcome and its interval, NaN unless *status* is ``ok``.
        level: of the interval.
        status, reason: ``ok``, or ``abstained`` and why.
        place: rank among all that were forecast, 1 for the highest mean; NaN without.
        target: scale of outcomes, ``normalised`` or ``raw``.
    """

    first: str
    second: str
    method: str
    mean: float
    low: float
    high: float
    level: float
    status: str
    reason: str
    place: float
    target: str


@dataclass(frozen=True, slots=True)
class FailureRow:
    """A cell that has no result: which model and step, and the error's text."""

    model: str
    step: str
    error: str


Row: TypeAlias = (
    ScoreRow | ItemRow | SimilarityRow | DoseRow | MergeabilityRow | PredictionRow | FailureRow
)
KINDS: dict[str, type[Row]] = {
    "score": ScoreRow, "item": ItemRow, "similarity": SimilarityRow, "dose": DoseRow,
    "mergeability": MergeabilityRow, "prediction": PredictionRow, "failure": FailureRow,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a row comes from; every stored row carries these columns.

    Attributes:
        key: content key of the step that made the row.
        fingerprint: content fingerprint of the model's weights.
        code: version of miscible.
        libraries: ``name==version`` of the libraries that computed it, space-separated.
        seed, dtype, device: numerics of the study.
        wall_seconds: wall time of the whole step.
    """

    key: str
    fingerprint: str
    code: str
    libraries: str
    seed: int
    dtype: str
    device: str
    wall_seconds: float


def to_frame(
    rows: Iterable[Row], kind: type[Row] | None = None, *, provenance: Provenance | None = None
) -> pd.DataFrame:
    """Return rows of one kind as a data frame with the columns of that kind.

    Args:
        rows: any number of them.
        kind: theirs; needed where there may be none.
        provenance: columns that are added.

    Raises:
        TypeError: if the rows are of more than one kind.
    """
    import pandas as pd

    held = list(rows)
    kinds = {type(row) for row in held} or ({kind} if kind is not None else set())
    if len(kinds) > 1:
        raise TypeError(f"rows of several kinds: {sorted(kind.__name__ for kind in kinds)}")
    columns = [field.name for kind in kinds for field in fields(kind)]
    frame = pd.DataFrame.from_records([as_dict(row) for row in held], columns=columns)
    for name in ("layer", "other_layer"):
        if name in frame:
            frame[name] = frame[name].astype("Int64")
    if provenance is not None:
        frame = frame.assign(**asdict(provenance))
    return frame


def as_dict(row: Row) -> dict[str, Any]:
    """Return a row as a plain dict, ready for JSON or a data frame."""
    return asdict(row)
