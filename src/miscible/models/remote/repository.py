"""A model repository of the Hub at one commit: its files with sizes and hashes, and its card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from miscible.errors import CheckpointError, ModelReferenceError
from miscible.models.ref import MODEL_FILES
from miscible.models.remote.transport import Head, read_head, read_whole

MAX_LISTING_BYTES = 32_000_000
MAX_FILES = 100_000
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOB = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository.

    Attributes:
        size: in bytes, None if the Hub does not tell.
        sha256: of its content, for files in large-file storage.
        blob: its git id, for the others.
    """

    size: int | None
    sha256: str | None = None
    blob: str | None = None

    @property
    def digest(self) -> str | None:
        """What is equal where the contents are, None if the Hub does not tell."""
        return self.sha256 or self.blob


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository at one commit.

    Attributes:
        reference: as the user wrote it.
        hub_id: the Hub's own spelling of it.
        commit: full hash.
        files: by path inside the repository; never one that leads out of it.
        card: front matter of its README, as the Hub has parsed it.
        gated: whether its files are given to those only who have asked.
    """

    reference: str
    hub_id: str
    commit: str
    files: Mapping[str, HubFile]
    card: Mapping[str, Any]
    gated: bool

    def read(self, name: str, limit: int) -> bytes:
        """Return a small file, from the Hub's cache if it is there; see `read_whole`."""
        held = self.cached(name)
        if held is not None:
            return _read_cached(held, limit)
        if (self.files[name].size or 0) > limit:
            raise CheckpointError("the file is too large to be believed.", where=self._where(name))
        return read_whole(self._url(name), limit, self._where(name))

    def head(self, name: str) -> Head:
        """Return the header of a safetensors file; see `read_head`.

        Raises:
            CheckpointError: besides, if the Hub lists another size than the file has.
        """
        head = read_head(self._url(name), self._where(name))
        listed = self.files[name].size
        if listed is not None and listed != head.total:
            raise CheckpointError(
                f"the Hub lists {listed} bytes, and the file has {head.total}.",
                where=self._where(name),
            )
        return head

    def cached(self, name: str) -> Path | None:
        """Return the file in the Hub's cache on this machine, None if it is not there."""
        from huggingface_hub import constants, try_to_load_from_cache

        found = try_to_load_from_cache(
            self.hub_id, name, cache_dir=constants.HF_HUB_CACHE, revision=self.commit
        )
        return Path(found) if isinstance(found, str) else None

    @property
    def download_bytes(self) -> int:
        """Bytes that a merge would download: of files that models need and the cache lacks."""
        wanted = (n for n in self.files if any(fnmatch(n, pattern) for pattern in MODEL_FILES))
        return sum(self.files[n].size or 0 for n in wanted if self.cached(n) is None)

    def _url(self, name: str) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.hub_id, name, revision=self.commit)

    def _where(self, name: str) -> str:
        return f"{self.reference}: {name}"


def look_up(reference: str) -> HubRepository:
    """Ask the Hub what a repository holds at the commit that a revision means now.

    Raises:
        RefusedError: if it does not exist, or is not given to this user.
        ModelReferenceError: if no Hub answers.
    """
    from huggingface_hub import constants

    hub_id, _, revision = reference.partition("@")
    path = f"/revision/{quote(revision, safe='')}" if revision else ""
    url = f"{constants.ENDPOINT}/api/models/{hub_id}{path}?blobs=true"
    content = read_whole(url, MAX_LISTING_BYTES, reference)
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _no_hub(reference) from error
    if not isinstance(answer, dict):
        raise _no_hub(reference)
    commit, siblings = answer.get("sha"), answer.get("siblings")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise _no_hub(reference)
    if not isinstance(siblings, list) or len(siblings) > MAX_FILES:
        raise _no_hub(reference)
    spelled = answer.get("id")
    same = isinstance(spelled, str) and re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", spelled)
    card = answer.get("cardData")
    return HubRepository(
        reference=reference,
        hub_id=str(spelled) if same else hub_id,
        commit=commit,
        files=dict(entry for entry in map(_file, siblings) if entry is not None),
        card=card if isinstance(card, dict) else {},
        gated=bool(answer.get("gated")),
    )


def _file(entry: Any) -> tuple[str, HubFile] | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("rfilename"), str):
        return None
    name = entry["rfilename"]
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        return None
    stated = entry.get("lfs")
    large = stated if isinstance(stated, dict) else {}
    size = entry.get("size", large.get("size"))
    return str(PurePosixPath(*parts)), HubFile(
        size=size if type(size) is int and 0 <= size < 2**60 else None,
        sha256=_matching(_SHA256, large.get("sha256")),
        blob=None if large else _matching(_BLOB, entry.get("blobId")),
    )


def _matching(pattern: re.Pattern[str], value: Any) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _read_cached(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}.", where=str(path)) from error
    if len(content) > limit:
        raise CheckpointError("the file is too large to be believed.", where=str(path))
    return content


def _no_hub(reference: str) -> ModelReferenceError:
    return ModelReferenceError(
        "the answer is not the Hub's.",
        where=reference,
        fix="Check HF_ENDPOINT, and whether a proxy or a login page stands in between.",
    )
