"""What a study hands over to be analysed: its rows, as data frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from miscible.records import MergeabilityRow, PredictionRow, to_frame

if TYPE_CHECKING:
    import pandas as pd


class Cell(NamedTuple):
    """One thing that is measured: a metric of a data set."""

    domain: str
    dataset: str
    metric: str


def _no_outcomes() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns=["model", "first", "second", "method", "outcome", "error"])


@dataclass(frozen=True, eq=False)
class StudyTables:
    """All rows of a study; two of them are equal only if they are the same object.

    Attributes:
        name: name of the study.
        models: a row a model: ``model``, ``role`` (base, parent or merge), ``family`` (all doses
            of one method; base and each parent are families of their own), ``method``,
            ``requested_dose`` (NaN if it has none), ``reference``, ``fingerprint``.
        scores: columns of `records.ScoreRow`, and provenance.
        items: columns of `records.ItemRow`.
        doses: columns of `records.DoseRow`: a row a merge and parent.
        failures: columns of `records.FailureRow`.
        similarities: columns of `records.SimilarityRow`.
        provenance: versions, seed, dtype, device, options, seconds a step: plain nested data.
        mergeability: columns of `records.MergeabilityRow`; empty if it was not measured.
        predictions: columns of `records.PredictionRow`; empty if no predictor was asked.
        outcomes: of the merges of two parents, where a predictor was asked: ``model``, ``first``,
            ``second``, ``method``, ``outcome`` on the scale of the predictions, ``error``.
    """

    name: str
    models: pd.DataFrame
    scores: pd.DataFrame
    items: pd.DataFrame
    doses: pd.DataFrame
    failures: pd.DataFrame
    similarities: pd.DataFrame
    provenance: Mapping[str, Any]
    mergeability: pd.DataFrame = field(default_factory=lambda: to_frame([], MergeabilityRow))
    predictions: pd.DataFrame = field(default_factory=lambda: to_frame([], PredictionRow))
    outcomes: pd.DataFrame = field(default_factory=_no_outcomes)

    def __post_init__(self) -> None:
        # A column that holds only nulls comes back from a store without its type.
        for name in _FRAMES:
            object.__setattr__(self, name, _typed(getattr(self, name)))

    @cached_property
    def base(self) -> str | None:
        """Name of the base model, None if the study has none."""
        named = self._of_role("base")
        return named[0] if named else None

    @cached_property
    def parents(self) -> tuple[str, ...]:
        """Names of the parents, in the order of the study."""
        return self._of_role("parent")

    @cached_property
    def merges(self) -> tuple[str, ...]:
        """Names of the merges, in the order of the study."""
        return self._of_role("merge")

    @cached_property
    def family(self) -> dict[str, str]:
        """Family of each model."""
        return dict(zip(self.models["model"], self.models["family"], strict=True))

    @cached_property
    def higher_is_better(self) -> dict[Cell, bool]:
        """Direction of everything that was scored."""
        columns = ["domain", "dataset", "metric", "higher_is_better"]
        if self.scores.empty:
            return {}
        rows = self.scores[columns].drop_duplicates(columns[:3])
        return {Cell(*row[:3]): bool(row[3]) for row in rows.itertuples(index=False, name=None)}

    @cached_property
    def dose(self) -> dict[str, float]:
        """Measured dose of each model on the axis of the study.

        With two parents or more it is the share of the second one (0 for the first parent, 1 for
        the second; further parents have none); with one parent, the coefficient of that parent
        (0 for the base). Merges without a measured dose are absent.
        """
        if not self.parents:
            return {}
        target = self.parents[min(1, len(self.parents) - 1)]
        column = "share" if len(self.parents) > 1 else "coefficient"
        held = {name: float(name == target) for name in self.parents[:2]}
        if len(self.parents) == 1 and self.base is not None:
            held[self.base] = 0.0
        if not self.doses.empty:
            rows = self.doses[self.doses["parent"] == target].dropna(subset=[column])
            held.update(zip(rows["model"], rows[column].astype(float), strict=True))
        return held

    def every_parent(self) -> str:
        """Return the words for all parents together."""
        return {1: "its parent", 2: "both parents"}.get(len(self.parents), "every parent")

    def _of_role(self, role: str) -> tuple[str, ...]:
        return tuple(self.models.loc[self.models["role"] == role, "model"])


_FRAMES = (
    "models", "scores", "items", "similarities", "doses", "failures", "mergeability",
    "predictions", "outcomes",
)  # fmt: skip
NUMBERS = (
    "requested_dose", "estimate", "low", "high", "n", "baseline", "selectivity", "value", "weight",
    "projection", "coefficient", "share", "cosine", "residual", "coverage",
    "mean", "level", "place", "outcome",
)  # fmt: skip
TEXTS = ("phenomenon", "competence", "flags", "scope", "second", "reason")


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, Any] = {
        name: pd.to_numeric(frame[name]).astype(float) for name in NUMBERS if name in frame
    }
    columns |= {name: frame[name].fillna("").astype(str) for name in TEXTS if name in frame}
    for name in ("layer", "other_layer"):
        if name in frame:
            columns[name] = pd.to_numeric(frame[name]).astype("Int64")
    return frame.assign(**columns).reset_index(drop=True)
