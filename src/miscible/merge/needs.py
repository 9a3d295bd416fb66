"""What a merge would need of a machine: bytes to download and to write, memory, time."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.preflight import Finding, Severity, Subject


@dataclass(frozen=True, slots=True)
class Needs:
    """What a merge would need.

    Attributes:
        download_bytes: of files that the Hub's cache lacks.
        output_bytes: of the merged weights; None where the merge cannot be planned.
        ram_bytes: most memory at one time; None likewise.
        seconds: wall time without the download; None likewise.
    """

    download_bytes: int
    output_bytes: int | None = None
    ram_bytes: int | None = None
    seconds: float | None = None


def needs_of(subjects: Iterable[Subject], virtual: VirtualCheckpoint | None) -> Needs:
    """Estimate what a merge needs.

    Args:
        subjects: its models.
        virtual: the merge, planned from headers; None if it cannot be.
    """
    repositories = {
        (place.repository.hub_id, place.repository.commit): place.repository
        for subject in subjects
        for place in subject.places
        if place.repository is not None
    }
    download = sum(repository.download_bytes for repository in repositories.values())
    if virtual is None:
        return Needs(download)
    from miscible.merge.engine.cost import estimate

    cost = estimate(virtual)
    return Needs(download, cost.write_bytes, cost.ram_bytes, cost.seconds)


def check_space(needs: Needs, folder: Path) -> Iterator[Finding]:
    """Yield a warning for each disk that is too small.

    Args:
        needs: of the merge.
        folder: where it would be written.
    """
    from huggingface_hub import constants

    for what, wanted, place in (
        ("download", needs.download_bytes, Path(constants.HF_HUB_CACHE)),
        ("merge", needs.output_bytes or 0, folder),
    ):
        free = _free_bytes(place)
        if free is not None and wanted > free:
            sentence = (
                f"the {what} needs {wanted / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are free "
                f"in {place}."
            )
            fix = "Set HF_HOME to a larger disk." if what == "download" else "Write it elsewhere."
            yield Finding(Severity.WARNING, "space", (), sentence, fix)


def _free_bytes(place: Path) -> int | None:
    for folder in (place, *place.parents):
        try:
            return shutil.disk_usage(folder).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None
