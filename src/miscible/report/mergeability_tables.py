"""Tables of what was measured of fine-tunes before any merge."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from miscible.report.mergeability import MAIN, Mergeability, figure
from miscible.report.table import Table, plain
from miscible.words import metric_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from miscible.measure.calibrated import CalibrationNote
    from miscible.measure.stability import Stability

MOST_PAIRS = 30


def pairs_table(held: Mergeability) -> Table | None:
    """Return the main metrics of all pairs, the highest cosine first; None without pairs."""
    shown = [metric for metric in MAIN if metric in held.metrics] or held.metrics[:6]
    if not held.pairs or not shown:
        return None

    def height(pair: tuple[str, str]) -> float:
        value = held.cell(*pair, shown[0]).value
        return value if math.isfinite(value) else -math.inf

    ranked = sorted(held.pairs, key=height, reverse=True)
    left = len(ranked) - MOST_PAIRS
    caption = f"Pairs, by {metric_name(shown[0])}"
    if left > 0:
        caption += f": the highest {MOST_PAIRS} of {len(ranked)}"
    body = [[*pair, *(held.cell(*pair, m).text for m in shown)] for pair in ranked[:MOST_PAIRS]]
    return plain(caption, ["model", "other", *(MAIN.get(m, metric_name(m)) for m in shown)], body)


def changed_models_table(held: Mergeability) -> Table:
    """Return how far each model went from the base, and its losses where it was run."""
    losses = [metric for metric in held.scalars if metric.startswith("loss on ")]
    whole = held.rows[(held.rows["second"] == "") & (held.rows["scope"] == "")]
    norms = whole[whole["metric"] == "task_vector_norm"]
    columns = norms[["first", "coverage", "status", "reason"]].itertuples(index=False, name=None)
    said = {str(name): (float(shared), str(why or status)) for name, shared, status, why in columns}
    body = [
        [
            name,
            figure(held.scalar(name, "task_vector_norm")),
            figure(held.scalar(name, "relative_distance")),
            f"{said[name][0]:.1%}",
            *(figure(held.scalar(name, loss)) for loss in losses),
            said[name][1],
        ]
        for name in held.models
        if name in said
    ]
    heads = ["model", "norm", "norm / base", "shared with the base", *losses, "status"]
    return plain("Models: how far they went from the base", heads, body)


def stability_table(rows: Sequence[Stability]) -> Table | None:
    """Return how much each metric depends on the calibration data; None if that is not known."""
    if not rows:
        return None
    folds = rows[0].folds
    heads = ["metric", "sd between pairs", f"sd at 1/{folds} of the data", "sd at half", "drift"]
    body = [
        [metric_name(r.metric), *map(figure, (r.between, r.fold_sd, r.half_sd, r.drift))]
        for r in rows
    ]
    return plain("How values depend on which data were drawn, and on how many", heads, body)


def calibration_table(note: CalibrationNote | None) -> Table | None:
    """Return over what models were run; None if they were not."""
    if note is None:
        return None
    body = [
        [each.name, each.owner or "all", f"{each.samples:,}", f"{each.tokens:,}", each.key[:16]]
        for each in note.data
    ]
    caption = f"Calibration data; seed {note.seed}, {note.dtype} on {note.device}"
    return plain(caption, ["data", "of", "samples", "tokens", "key"], body)
