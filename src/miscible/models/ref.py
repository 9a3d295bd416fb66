"""Model references: the one syntax by which users name models, and how a name becomes a folder.

==========================  ========================================================
``folder``                  a local model folder (never touches the network)
``file.safetensors``        one local file of weights, as diffusion models are published
``org/name``                a model of the Hub, resolved to a commit at once
``org/name@revision``       a branch, tag or commit of it
``demo:NAME``               a model that ships in a package (see `miscible.models.demo`)
``BASE+ADAPTER``            a LoRA adapter on a base, each written as above
==========================  ========================================================

A folder whose path contains ``+`` is a folder: the whole reference is looked for first, then each
``+``, from the left, is tried as the one between base and adapter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from miscible.errors import AdapterError, ModelReferenceError
from miscible.models.adapter_config import CONFIG_NAME
from miscible.models.adapters import AdaptedCheckpoint, LoraAdapter
from miscible.models.checkpoint import Checkpoint, FileCheckpoint, FolderCheckpoint

DEMO_PREFIX = "demo:"
FILE_SUFFIX = ".safetensors"
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_REVISION = re.compile(r"[\w][\w./-]*")
_LONGEST_HUB_ID = 200  # the Hub allows 96 a half
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
    label = name or reference
    file = _local_file(reference, relative_to)
    if file is not None:
        return FileCheckpoint(file, name=label)
    base_reference, adapter_reference = split_reference(reference, relative_to)
    source = resolve(base_reference, relative_to)
    if adapter_reference is None:
        if (source.folder / CONFIG_NAME).is_file():
            return _adapter_on_its_own_base(source, relative_to, label)
        return FolderCheckpoint(source.folder, name=label)
    checkpoint = FolderCheckpoint(source.folder, name=base_reference)
    adapter = resolve(adapter_reference, relative_to)
    return AdaptedCheckpoint(
        checkpoint, LoraAdapter(adapter.folder, name=adapter_reference), name=label
    )


def split_reference(reference: str, relative_to: Path | None = None) -> tuple[str, str | None]:
    """Return base and adapter of a reference, None for the adapter where it names one folder.

    Raises:
        ModelReferenceError: if a folder cannot be looked at.
    """
    if "+" not in reference or _local_folder(reference, relative_to):
        return reference, None
    places = [i for i, character in enumerate(reference) if character == "+"]
    halves = [(reference[:i], reference[i + 1 :]) for i in places]
    for base, adapter in halves:
        if _may_name(base, relative_to) and _may_name(adapter, relative_to):
            return base, adapter
    # What is wrong is said of the half that is: the first base that names something, else all.
    for base, adapter in halves:
        if _may_name(base, relative_to):
            return base, adapter
    return halves[0] if len(halves) == 1 else (reference, None)


def _may_name(half: str, relative_to: Path | None) -> bool:
    if half.startswith(DEMO_PREFIX) or _local_folder(half, relative_to):
        return True
    return _has_hub_form(half)


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
    folder = _local_folder(reference, relative_to)
    if folder is not None:
        return ModelSource(reference, folder)
    hub_id, at, revision = reference.partition("@")
    if not _has_hub_form(reference):
        raise ModelReferenceError(
            f"there is no folder {_shown(reference)!r}, and it is not a Hub id (org/name).",
            where=str(relative_to) if relative_to else None,
        )
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ModelReferenceError(
            f"{_shown(revision)!r} is not a revision.", where=_shown(reference)
        )
    return _download(reference, hub_id, revision or None)


def is_hub_id(reference: str) -> bool:
    """Return whether a reference names a Hub model (and no folder of that name exists)."""
    return _has_hub_form(reference) and _local_folder(reference, None) is None


def _has_hub_form(reference: str) -> bool:
    hub_id = reference.partition("@")[0]
    return (
        len(hub_id) <= _LONGEST_HUB_ID
        and _HUB_ID.fullmatch(hub_id) is not None
        and not _looks_local(hub_id)
    )


def _looks_local(hub_id: str) -> bool:
    return hub_id.startswith((".", "/", "~", "\\")) or hub_id.count("/") > 1


def _local_folder(reference: str, relative_to: Path | None) -> Path | None:
    try:
        folder = (relative_to or Path()) / Path(reference).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError) as error:  # a name too long, a closed folder, an unknown ~user
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise ModelReferenceError(
            f"the folder cannot be opened: {reason}.", where=_shown(reference)
        ) from error


def _local_file(reference: str, relative_to: Path | None) -> Path | None:
    if not reference.endswith(FILE_SUFFIX):
        return None
    try:
        file = (relative_to or Path()) / Path(reference).expanduser()
        return file if file.is_file() else None
    except (OSError, RuntimeError):
        return None


def _shown(reference: str) -> str:
    return reference if len(reference) <= 200 else f"{reference[:100]}…"


def _download(reference: str, hub_id: str, revision: str | None) -> ModelSource:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def snapshot(*, local: bool) -> Path:
        # A branch is resolved to a commit first, so all files are of one commit; it is remembered,
        # so the cache answers for the branch where the Hub cannot be reached.
        return Path(
            snapshot_download(
                hub_id, revision=revision, allow_patterns=MODEL_FILES, local_files_only=local
            )
        )

    try:
        folder = snapshot(local=False)
    except LocalEntryNotFoundError as error:
        raise _out_of_reach(reference) from error
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
    # Each version of the Hub's client lets errors of another transport library through.
    except Exception as error:
        try:
            folder = snapshot(local=True)
        except Exception:
            raise _out_of_reach(reference, type(error).__name__) from error
    # A snapshot's folder is named by its commit, also when the cache alone was asked.
    return ModelSource(reference, folder, commit=folder.name)


def _out_of_reach(reference: str, reason: str = "") -> ModelReferenceError:
    return ModelReferenceError(
        "the model is not in the local Hub cache, and the Hub cannot be asked"
        + (f" ({reason})." if reason else "."),
        where=reference,
        fix="Unset HF_HUB_OFFLINE or check the connection.",
    )


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
