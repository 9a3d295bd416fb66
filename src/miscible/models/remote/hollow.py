"""A snapshot without weights: what all other code opens in place of a model that is not here.

The folder is laid out as the Hub's cache is, small files as they are, and in place of each weight
file its header followed by a hole of the right size. So the readers of folders and adapters judge
a model of the Hub by the same rules as one on this disk, and know its contents by their hashes,
while a hole takes no space. Nobody may read tensors from it (see `miscible.models.preflight`), and
it is deleted when the questions have been answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path, PurePosixPath

from miscible.errors import CheckpointError
from miscible.models.adapter_config import CONFIG_NAME
from miscible.models.adapters import WEIGHTS_NAME
from miscible.models.checkpoint import PICKLE_PATTERNS, STEMS
from miscible.models.remote.repository import HubRepository

MAX_SMALL_BYTES = 64_000_000
"""A tokenizer or an index of the largest models stays below; a longer one is compared by hash."""
MAX_SHARDS = 2_000
MAX_HOLE_BYTES = 2**43
CONNECTIONS = 8
SMALL_FILES = (
    "config.json", CONFIG_NAME, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
    "chat_template.json",
)  # fmt: skip
WITHOUT_FAST_TOKENIZER = ("vocab.json", "vocab.txt", "added_tokens.json")
PLACEHOLDERS = (*PICKLE_PATTERNS, "*.model", "tekken.json")
"""Files whose being there says something, and whose contents are not asked for."""
_SUFFIX, _INDEX_SUFFIX = ".safetensors", ".safetensors.index.json"
_FINISHED = ".finished"
_PLAIN = re.compile(r"[\w.-]+")


def hollow_snapshot(repository: HubRepository, scratch: Path) -> Path:
    """Write the hollow snapshot of a repository and return its folder.

    Args:
        repository: what to fetch from; files in the Hub's cache are linked, not fetched.
        scratch: an existing folder; several snapshots may share it, and then fetch what is equal
            once.

    Raises:
        RefusedError: if the repository's files are not given.
        ModelReferenceError: if no server answers.
        CheckpointError: if a header is not to be believed.
    """
    folder = scratch / repository.hub_id.replace("/", "--") / repository.commit
    finished = folder / _FINISHED
    if finished.is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (scratch / "blobs").mkdir(exist_ok=True)
    small = [n for n in SMALL_FILES if n in repository.files]
    if "tokenizer.json" not in repository.files:
        small += [n for n in WITHOUT_FAST_TOKENIZER if n in repository.files]
    small += [n for n in repository.files if n.endswith(_INDEX_SUFFIX) and _PLAIN.fullmatch(n)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        # Results are asked for, so what went wrong is raised here.
        list(pool.map(lambda name: _copy_small(repository, name, folder, scratch), small))
        weights = _weight_files(repository, folder)
        list(pool.map(lambda name: _copy_head(repository, name, folder, scratch), weights))
    for name in repository.files:
        if _PLAIN.fullmatch(name) and any(PurePosixPath(name).match(p) for p in PLACEHOLDERS):
            (folder / name).touch()
    finished.touch()
    return folder


def _weight_files(repository: HubRepository, folder: Path) -> list[str]:
    # The same choice as the reader of folders makes, who has the last word on what is wrong.
    files = repository.files
    plain = [n for n in files if n.endswith(_SUFFIX) and _PLAIN.fullmatch(n) and n != WEIGHTS_NAME]
    index = next((i for stem in STEMS if (i := folder / f"{stem}.index.json").is_file()), None)
    if index is not None:
        chosen = [name for name in _shards_of(index) if name in files]
    else:
        chosen = [stem for stem in STEMS if stem in plain][:1] or plain
        if len(chosen) > 1:  # refused by their names alone
            for name in chosen[:MAX_SHARDS]:
                (folder / name).touch()
            chosen = []
    if WEIGHTS_NAME in files and CONFIG_NAME in files:
        chosen.append(WEIGHTS_NAME)
    if len(chosen) > MAX_SHARDS:
        raise CheckpointError(
            f"the model has {len(chosen)} weight files, more than {MAX_SHARDS}.",
            where=repository.reference,
        )
    return sorted(chosen)


def _shards_of(index: Path) -> Iterable[str]:
    try:
        weight_map = json.loads(index.read_bytes()).get("weight_map")
        return {str(shard) for shard in weight_map.values()}
    except (ValueError, RecursionError, AttributeError):
        return ()  # for the reader of folders to refuse


def _copy_small(repository: HubRepository, name: str, folder: Path, scratch: Path) -> None:
    size, digest = repository.files[name].size, repository.files[name].digest
    if name == "tokenizer.json" and (size or 0) > MAX_SMALL_BYTES:
        return  # told apart by its hash alone
    shared = scratch / "small" / f"{digest}-{name}"
    if digest is not None and shared.is_file():
        (folder / name).write_bytes(shared.read_bytes())
        return
    content = repository.read(name, MAX_SMALL_BYTES)
    (folder / name).write_bytes(content)
    if digest is not None:
        shared.parent.mkdir(exist_ok=True)
        shared.write_bytes(content)


def _copy_head(repository: HubRepository, name: str, folder: Path, scratch: Path) -> None:
    link = folder.joinpath(*PurePosixPath(name).parts)
    link.parent.mkdir(parents=True, exist_ok=True)
    held = repository.cached(name)
    if held is not None:
        link.unlink(missing_ok=True)
        link.symlink_to(held.resolve())
        return
    head = repository.head(name)
    if head.total > MAX_HOLE_BYTES:
        raise CheckpointError(
            f"claims to have {head.total} bytes, which no weight file has.",
            where=f"{repository.reference}: {name}",
        )
    # The Hub names blobs by their hash, and so do we: it is the file's digest to everyone else.
    facts = repository.files[name]
    otherwise = facts.blob or f"{repository.hub_id}@{repository.commit}/{name}"
    digest = facts.sha256 or sha256(otherwise.encode()).hexdigest()
    blob = scratch / "blobs" / digest
    try:
        with blob.open("wb") as file:
            file.write(head.content)
            file.truncate(head.total)
    except OSError as error:
        raise CheckpointError(
            f"its outline cannot be written: {error.strerror}.", where=str(scratch)
        ) from error
    link.unlink(missing_ok=True)
    link.symlink_to(blob)
