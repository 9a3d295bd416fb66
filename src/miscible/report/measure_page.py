"""The page of ``miscible measure``: N fine-tunes alone, in one file that opens anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.measure.result import Measurement
from miscible.records import MergeabilityRow, to_frame
from miscible.report.charts.change_profile import change_profiles
from miscible.report.charts.metric_maps import metric_maps
from miscible.report.charts.metric_pairs import metric_pairs
from miscible.report.document import document, write_document
from miscible.report.mergeability import Mergeability
from miscible.report.mergeability_tables import (
    calibration_table,
    changed_models_table,
    pairs_table,
    stability_table,
)
from miscible.words import counted

if TYPE_CHECKING:
    from miscible.report.figure import ChartGroup


def write_measure_page(found: Measurement, path: Path) -> None:
    """Write the page of a measurement; it is complete or absent.

    Raises:
        StoreError: if the file cannot be written.
    """
    write_document(render_measurement(found), path)


def render_measurement(found: Measurement) -> str:
    """Return the page of a measurement as HTML."""
    held = Mergeability(to_frame(found.rows(), MergeabilityRow), found.base)
    problems = [f"{m.name}: {m.reason}" for m in found.models if m.status != "ok"]
    problems += found.not_run()
    facts = [
        f"base: {found.base}", counted(len(found.models), "model"),
        counted(len(found.pairs), "pair"), counted(len(found.metrics), "metric"),
    ]  # fmt: skip
    return document(
        "measure.html.j2",
        mergeability_groups(held),
        title=f"{len(found.models)} fine-tunes of {found.base.rstrip('/').rpartition('/')[2]}",
        facts=" · ".join(facts),
        problems=problems,
        mergeability={
            **mergeability_tables(held),
            "stability": stability_table(found.stability_by_metric()),
            "calibration": calibration_table(found.calibration),
        },
    )


def mergeability_groups(held: Mergeability) -> dict[str, ChartGroup]:
    """Return the charts, by the names that templates give them."""
    return {
        "metric_maps": metric_maps(held),
        "metric_pairs": metric_pairs(held),
        "profiles": change_profiles(held),
    }


def mergeability_tables(held: Mergeability) -> dict[str, Any]:
    """Return the tables of models and pairs, by the names that templates give them."""
    return {
        "pairs": pairs_table(held), "models": changed_models_table(held), "stability": None,
        "calibration": None, "ran": any(metric.startswith("loss on ") for metric in held.scalars),
    }  # fmt: skip
