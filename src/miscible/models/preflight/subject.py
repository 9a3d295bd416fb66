"""A model before a merge: what its configs, headers and card tell, and nothing of its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import AdapterError, CheckpointError, MiscibleError, ModelReferenceError
from miscible.keys import content_key
from miscible.models.adapted import AdaptedCheckpoint
from miscible.models.adapter_config import CONFIG_NAME
from miscible.models.adapters import LoraAdapter
from miscible.models.checkpoint import Checkpoint, FolderCheckpoint, read_json
from miscible.models.fingerprint import digest_of
from miscible.models.formats.safetensors import SafetensorsFile
from miscible.models.licence import read_card
from miscible.models.preflight.finding import Finding, Severity, shown
from miscible.models.ref import DEMO_PREFIX, is_hub_id, resolve, split_reference
from miscible.models.remote import HubRepository, RefusedError, hollow_snapshot, look_up

if TYPE_CHECKING:
    import torch

MOST_BYTES_HASHED = 2**28
"""Larger files on this disk are told apart by samples: a check must not read whole models."""
_MOST_SAMPLES, _SAMPLE_BYTES = 4096, 4096
_OWN_BASE = "base_model_name_or_path"


@dataclass(frozen=True)
class Place:
    """Where the files of one half of a reference are.

    Attributes:
        reference: as the user wrote it.
        folder: its files; for a model that is not here, its hollow snapshot.
        commit: of the Hub, None for local folders.
        repository: the Hub's word on it, None for local folders and where no Hub was asked.
    """

    reference: str
    folder: Path
    commit: str | None = None
    repository: HubRepository | None = None

    @cached_property
    def card(self) -> Mapping[str, Any]:
        """Front matter of the model card, empty if there is none."""
        return self.repository.card if self.repository is not None else read_card(self.folder)


@dataclass(frozen=True, eq=False)
class Subject:
    """A model of a merge.

    Attributes:
        reference: as the user wrote it.
        label: how findings call it.
        place: where its files are, those of its base if it is an adapter; None if refused.
        adapter: where the adapter's files are.
        config: the model's, empty if it cannot be read.
        adapter_config: empty for full models.
        checkpoint: headers alone; None if they cannot be read.
        findings: what went wrong when it was opened.
    """

    reference: str
    label: str
    place: Place | None = None
    adapter: Place | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    adapter_config: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def places(self) -> tuple[Place, ...]:
        """Every place whose files the model is made of."""
        return tuple(place for place in (self.place, self.adapter) if place is not None)


class HeaderCheckpoint(FolderCheckpoint):
    """A checkpoint of which only headers are here, or are to be read."""

    @cached_property
    def fingerprint(self) -> str:
        """Equal to the real one where hashes are known; else of samples, for large local files."""
        return content_key(weights=[self._digest(path) for path in sorted(self.files)])

    def _digest(self, path: Path) -> str:
        real = path.resolve()
        if real.stat().st_size <= MOST_BYTES_HASHED or real.parent.name == "blobs":
            return digest_of(path)
        return _sampled(SafetensorsFile(path))

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Refuse: a hole would be read as zeros."""
        raise CheckpointError("only the headers of this model were read.", where=self.name)


def open_subject(
    reference: str, scratch: Path, *, relative_to: Path | None = None, label: str | None = None
) -> Subject:
    """Look at the model that *reference* names; what is wrong with it becomes a finding.

    Args:
        reference: see `miscible.models.ref`.
        scratch: folder for hollow snapshots of models that are not here.
        relative_to: folder against which local paths are resolved; the working folder if None.
        label: how findings call it; the reference if None.

    Raises:
        ModelReferenceError: if the reference is malformed, or cannot be looked up.
    """
    label = label or reference
    base, adapter = split_reference(reference, relative_to)
    opener = _Opener(reference, label, scratch, relative_to)
    place = opener.find(base)
    if place is not None and adapter is None and (place.folder / CONFIG_NAME).is_file():
        own = opener.base_of(place)
        return opener.adapted(None if own is None else opener.find(own), place)
    if adapter is not None:
        return opener.adapted(place, opener.find(adapter))
    return opener.whole(place)


class _Opener:
    def __init__(self, reference: str, label: str, scratch: Path, relative_to: Path | None) -> None:
        self.reference, self.label = reference, label
        self.scratch, self.relative_to = scratch, relative_to
        self.findings: list[Finding] = []

    def find(self, reference: str) -> Place | None:
        if _is_here(reference, self.relative_to):
            found = resolve(reference, self.relative_to)
            return Place(reference, found.folder, found.commit)
        try:
            repository = look_up(reference)
            folder = hollow_snapshot(repository, self.scratch)
        except RefusedError as error:
            self._refused(reference, error)
        except CheckpointError as error:
            self._wrong("weights", error)
        except ModelReferenceError as error:  # no Hub answers: what is in its cache will do
            cached = _cached_snapshot(reference)
            if cached is None:
                raise error
            return Place(reference, cached, commit=cached.name)
        else:
            return Place(reference, folder, repository.commit, repository)
        return None

    def base_of(self, adapter: Place) -> str | None:
        try:
            base = read_json(adapter.folder / CONFIG_NAME).get(_OWN_BASE)
        except CheckpointError as error:
            self._wrong("adapter", error)
            return None
        if isinstance(base, str) and base:
            return base
        self._note("adapter", "does not say what its base is", f"Write BASE+{adapter.reference}.")
        return None

    def whole(self, place: Place | None) -> Subject:
        checkpoint, config = self._opened(place)
        return self._subject(place, None, config, {}, checkpoint)

    def adapted(self, place: Place | None, adapter: Place | None) -> Subject:
        base, config = self._opened(place)
        checkpoint: Checkpoint | None = None
        adapter_config: Mapping[str, Any] = {}
        if adapter is not None:
            try:
                adapter_config = read_json(adapter.folder / CONFIG_NAME)
                lora = LoraAdapter(adapter.folder, name=adapter.reference)
                if base is not None:
                    checkpoint = AdaptedCheckpoint(base, lora, name=self.reference)
            except CheckpointError as error:
                self._wrong("adapter", error)
        return self._subject(place, adapter, config, adapter_config, checkpoint)

    def _subject(
        self,
        place: Place | None,
        adapter: Place | None,
        config: Mapping[str, Any],
        adapter_config: Mapping[str, Any],
        checkpoint: Checkpoint | None,
    ) -> Subject:
        return Subject(
            self.reference, self.label, place, adapter, config, adapter_config, checkpoint,
            tuple(self.findings),
        )  # fmt: skip

    def _opened(self, place: Place | None) -> tuple[Checkpoint | None, Mapping[str, Any]]:
        if place is None:
            return None, {}
        checkpoint, config = None, {}
        try:
            config = read_json(place.folder / "config.json")
        except CheckpointError as error:
            self._wrong("config", error)
        try:
            checkpoint = HeaderCheckpoint(place.folder, name=place.reference)
        except CheckpointError as error:
            self._wrong("weights", error)
        return checkpoint, config

    def _refused(self, reference: str, error: RefusedError) -> None:
        if error.code == "GatedRepo" or error.status == 403:
            self._note(
                "access",
                f"is gated: the Hub does not give its files to this user (HTTP {error.status})",
                "Ask for access on the model's page, then set HF_TOKEN.",
            )
            return
        thing = "revision" if error.code == "RevisionNotFound" else "model"
        self._note(
            "access",
            f"the Hub has no such {thing}, or does not show it to this user: "
            f"{shown(reference, 200)} (HTTP {error.status})",
            "Check the id and the revision; private and gated models need HF_TOKEN.",
        )

    def _wrong(self, check: str, error: MiscibleError) -> None:
        # Messages name a hollow snapshot's file; its folder is nobody's business.
        name = Path(error.where).name if error.where and str(self.scratch) in error.where else None
        what = error.what.rstrip(".")
        kind = "adapter" if isinstance(error, AdapterError) else check
        self._note(kind, f"{name}: {what}" if name and "." in name else what, error.fix)

    def _note(self, check: str, what: str, fix: str | None) -> None:
        self.findings.append(
            Finding(Severity.ERROR, check, (self.reference,), f"{self.label}: {what}.", fix)
        )


def _is_here(reference: str, relative_to: Path | None) -> bool:
    if reference.startswith(DEMO_PREFIX) or not is_hub_id(reference):
        return True  # or malformed, which `resolve` says
    try:
        return ((relative_to or Path()) / Path(reference).expanduser()).is_dir()
    except (OSError, RuntimeError):
        return False


def _cached_snapshot(reference: str) -> Path | None:
    from huggingface_hub import constants, snapshot_download

    hub_id, _, revision = reference.partition("@")
    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision or None,
                cache_dir=constants.HF_HUB_CACHE,
                local_files_only=True,
            )
        )
    except Exception:  # of whatever library looks it up: it is not there
        return None


def _sampled(file: SafetensorsFile) -> str:
    # A piece out of the middle of every tensor: training leaves none of a tensor's rows alone.
    held = sorted(file.extents.values(), key=lambda extent: extent.offset)
    step = max(1, len(held) // _MOST_SAMPLES)
    samples = hashlib.sha256(str(file.path.stat().st_size).encode())
    with file.path.open("rb") as stream:
        for extent in held[::step]:
            length = min(_SAMPLE_BYTES, extent.info.nbytes)
            stream.seek(extent.offset + (extent.info.nbytes - length) // 2)
            samples.update(stream.read(length))
    return f"samples:{samples.hexdigest()}"
