"""Model references: the one syntax by which users name models, and how a name becomes a folder.

==========================  ========================================================
``folder``                  a local model folder (never touches the network)
``org/name``                a model of the Hub, resolved to a commit at once
``org/name@revision``       a branch, tag or commit of it
``demo:NAME``               a model that ships in a package (see `miscible.models.demo`)
``BASE+ADAPTER``            a LoRA adapter on a base, each written as above
==========================  ========================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from miscible.errors import AdapterError, ModelReferenceError
from miscible.models.adapters import CONFIG_NAME, AdaptedCheckpoint, LoraAdapter
from miscible.models.checkpoint import Checkpoint, FolderCheckpoint

DEMO_PREFIX = "demo:"
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_REVISION = re.compile(r"[\w][\w./-]*")
MODEL_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.model", "*.txt", "*.jinja"]
"""What is downloaded: never code, never pickles."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """One half of a reference, resolved.

    Attributes:
        reference: as the user wrote it.
        folder: where its files lie.
        commit: Hub commit, None for local folders.
    """

    reference: str
    folder: Path
    commit: str | None = None


def open_checkpoint(
    reference: str, *, relative_to: Path | None = None, name: str | None = None
) -> Checkpoint:
    """Open the model that *reference* names; only headers and small JSON files are read.

    Args:
        reference: see the module's table.
        relative_to: folder against which local paths are resolved; the working folder if None.
        name: how messages call the model; the reference itself if None.

    Raises:
        ModelReferenceError: if it names nothing.
        CheckpointError, AdapterError: if what it names is damaged or refused.
    """
    base_reference, plus, adapter_reference = reference.partition("+")
    label = name or reference
    source = resolve(base_reference, relative_to)
    if not plus and (source.folder / CONFIG_NAME).is_file():
        return _adapter_on_its_own_base(source, relative_to, label)
    checkpoint = FolderCheckpoint(source.folder, name=base_reference if plus else label)
    if not plus:
        return checkpoint
    adapter = resolve(adapter_reference, relative_to)
    return AdaptedCheckpoint(
        checkpoint, LoraAdapter(adapter.folder, name=adapter_reference), name=label
    )


def resolve(reference: str, relative_to: Path | None = None) -> ModelSource:
    """Turn one half of a reference into a folder; downloads from the Hub if need be.

    Raises:
        ModelReferenceError: if it is malformed, missing, or cannot be downloaded.
    """
    if reference.startswith(DEMO_PREFIX):
        from miscible.models.demo import demo_folder

        return ModelSource(reference, demo_folder(reference.removeprefix(DEMO_PREFIX)))
    if not reference.strip():
        raise ModelReferenceError("a model reference is empty.")
    folder = (relative_to or Path()) / Path(reference).expanduser()
    if folder.is_dir():
        return ModelSource(reference, folder)
    hub_id, at, revision = reference.partition("@")
    if _looks_local(reference) or not _HUB_ID.fullmatch(hub_id):
        raise ModelReferenceError(
            f"there is no folder {reference!r}, and it is not a Hub id (org/name).",
            where=str(relative_to) if relative_to else None,
        )
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ModelReferenceError(f"{revision!r} is not a revision.", where=reference)
    return _download(reference, hub_id, revision or None)


def is_hub_id(reference: str) -> bool:
    """Return whether a reference names a Hub model (and no folder of that name exists)."""
    hub_id = reference.partition("@")[0]
    return (
        _HUB_ID.fullmatch(hub_id) is not None
        and not _looks_local(reference)
        and not Path(reference).exists()
    )


def _looks_local(reference: str) -> bool:
    return reference.startswith((".", "/", "~", "\\")) or reference.count("/") > 1


def _download(reference: str, hub_id: str, revision: str | None) -> ModelSource:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        # Pinned before the download, so that all files are of one commit.
        commit = revision if HF_HUB_OFFLINE else HfApi().model_info(hub_id, revision=revision).sha
        folder = Path(snapshot_download(hub_id, revision=commit, allow_patterns=MODEL_FILES))
    except LocalEntryNotFoundError as error:
        raise ModelReferenceError(
            "the model is not in the local Hub cache, and the Hub cannot be asked.",
            where=reference,
            fix="Unset HF_HUB_OFFLINE or check the connection.",
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise ModelReferenceError(
            f"the Hub does not give this model (HTTP {status}).",
            where=reference,
            fix="Check the id and the revision; gated models need HF_TOKEN.",
        ) from error
    except HFValidationError as error:
        raise ModelReferenceError("is not a valid Hub id.", where=reference) from error
    except OSError as error:
        raise ModelReferenceError(
            f"the model could not be downloaded ({type(error).__name__}).",
            where=reference,
            fix="Check the connection and the free space, then run the same command again.",
        ) from error
    # A snapshot's folder is named by its commit, also when the cache alone was asked.
    return ModelSource(reference, folder, commit=folder.name)


def _adapter_on_its_own_base(
    source: ModelSource, relative_to: Path | None, label: str
) -> AdaptedCheckpoint:
    adapter = LoraAdapter(source.folder, name=source.reference)
    base_reference = adapter.config.get("base_model_name_or_path")
    if not isinstance(base_reference, str) or not base_reference:
        raise AdapterError(
            "the adapter does not say what its base is.",
            where=source.reference,
            fix=f"Write BASE+{source.reference}.",
        )
    base = FolderCheckpoint(resolve(base_reference, relative_to).folder, name=base_reference)
    return AdaptedCheckpoint(base, adapter, name=label)
