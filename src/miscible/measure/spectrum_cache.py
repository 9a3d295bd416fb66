"""Decompositions on disk: adding a model to nineteen others costs one model's.

A decomposition is kept under the content of the two tensors that it is of, the base's and the
model's, so that it serves whatever the models are called and whichever files hold them. Every file
begins with the SHA-256 of the rest; one that does not fit is removed and made again.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from uuid import uuid4

import numpy as np

from miscible.keys import content_key
from miscible.measure.spectrum import VALUES, VECTORS, Spectrum
from miscible.models.cache import cache_root

VERSION = 2
"""Changes when a decomposition is computed otherwise."""
_DIGEST_BYTES = 32


class SpectrumCache:
    """Decompositions in a folder; several processes may use it.

    Args:
        folder: made when something is kept; in miscible's cache folder if None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_root() / "spectra"

    def key(self, base: str, model: str) -> str:
        """Return the name of what is kept of a model's tensor, given digests of both tensors."""
        return content_key(version=VERSION, k=VECTORS, values=VALUES, base=base, model=model)

    def load(self, key: str, shape: tuple[int, int]) -> Spectrum | None:
        """Return what is kept of a tensor of that shape, None if there is nothing sound."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        found = _unpacked(content, shape)
        if found is None:
            with suppress(OSError):
                path.unlink()
        return found

    def keep(self, key: str, spectrum: Spectrum) -> None:
        """Keep a decomposition. A cache that cannot be written costs time, not correctness."""
        path = self._path(key)
        partial = path.with_suffix(f".{uuid4().hex}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(_packed(spectrum))
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key


def _packed(spectrum: Spectrum) -> bytes:
    from safetensors.numpy import save

    held = {f.name: np.ascontiguousarray(getattr(spectrum, f.name)) for f in fields(spectrum)}
    content = save(held)
    return hashlib.sha256(content).digest() + content


def _unpacked(content: bytes, shape: tuple[int, int]) -> Spectrum | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    digest, rest = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(rest).digest() != digest:
        return None
    try:
        held = load(rest)
        found = Spectrum(int(held.pop("rank").item()), **held)
    except (SafetensorError, TypeError, KeyError, ValueError):
        return None
    fits = (found.left_top.shape[1:], found.right_top.shape[1:], found.right_bottom.shape[1:])
    return found if fits == ((shape[0],), (shape[1],), (shape[1],)) else None
