"""Pooled states on disk, so that data sets and studies share what a model made of a text.

A state belongs to the weights and numerics of a model, and to the tokens that were read and pooled:
that is its key, so that another tokenizer or a shorter context is another state. They are kept in
float16, and used in float16 from the first time on, so that it does not matter when they were
computed; what float16 cannot hold is not kept.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from miscible.errors import StoreError
from miscible.keys import content_key
from miscible.probe.encoding.tokens import EncodingPlan

if TYPE_CHECKING:
    from miscible.models.live import LiveModel

DIGEST_BYTES = 16
LARGEST = 65504.0
"""The largest float16 number."""

Half = npt.NDArray[np.float16]
Array = npt.NDArray[np.float64]


class StateCache:
    """States of models in a folder: a file for each run that added some, never changed again.

    Args:
        folder: made when something is kept; several processes may use it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of_model(self, live: LiveModel, layers: tuple[int, ...]) -> ModelStates:
        """Return what is kept of the weights that *live* holds now."""
        key = content_key(
            weights=live.fingerprint, dtype=str(live.dtype), device=live.device.type, layers=layers
        )
        return ModelStates(self.folder / key)


class ModelStates:
    """What is kept of one model, by the digests of reads and texts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reads: dict[bytes, tuple[Path, int]] = {}
        self._texts: dict[bytes, float] = {}
        for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else []:
            self._index(path)

    def known(self, reads: list[bytes], texts: list[bytes]) -> tuple[list[bool], Array]:
        """Return which reads are kept, and the log-probabilities of texts, NaN for unknown ones."""
        found = np.asarray([self._texts.get(text, np.nan) for text in texts])
        return [read in self._reads for read in reads], found

    def fill(self, reads: list[bytes], states: npt.NDArray[np.float32]) -> None:
        """Fill in the *states* of the reads that are kept, [reads, layers, width]."""
        from safetensors import safe_open

        by_file: dict[Path, list[tuple[int, int]]] = {}
        for place, read in enumerate(reads):
            if read in self._reads:
                path, row = self._reads[read]
                by_file.setdefault(path, []).append((place, row))
        for path, rows in by_file.items():
            with safe_open(path, framework="numpy") as file:
                held = file.get_slice("states")
                for place, row in rows:
                    states[place] = held[row]

    def add(
        self, reads: list[bytes], states: Half, texts: list[bytes], log_probability: Array
    ) -> None:
        """Keep states and log-probabilities.

        Raises:
            StoreError: if they cannot be written; nothing is left behind.
        """
        from safetensors.numpy import save_file

        path = self._folder / f"{uuid4().hex}.safetensors"
        partial = path.with_suffix(".partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file(
                {
                    "reads": _packed(reads), "states": states, "texts": _packed(texts),
                    "log_probability": log_probability,
                },
                partial,
            )  # fmt: skip
            partial.replace(path)
        except OSError as error:
            raise StoreError(
                f"states cannot be kept: {error.strerror}.", where=str(self._folder)
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        self._index(path)

    def _index(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                reads, texts = (_unpacked(file.get_tensor(name)) for name in ("reads", "texts"))
                values = file.get_tensor("log_probability").tolist()
        except (OSError, SafetensorError) as error:
            raise StoreError(
                "a file of kept states is damaged.", where=str(path), fix="Delete it."
            ) from error
        self._reads |= {read: (path, row) for row, read in enumerate(reads)}
        self._texts |= dict(zip(texts, values, strict=True))


def digests(plan: EncodingPlan) -> tuple[list[bytes], list[bytes]]:
    """Return a digest of every read and of every text of a plan."""
    ids = [np.asarray(sequence.ids, dtype=np.int64).tobytes() for sequence in plan.sequences]
    texts = [
        _digest(held + np.asarray(sequence.scored, dtype=np.int64).tobytes())
        for held, sequence in zip(ids, plan.sequences, strict=True)
    ]
    reads = [
        _digest(ids[owner] + place.tobytes())
        for owner, place in zip(plan.owners.tolist(), plan.positions, strict=True)
    ]
    return reads, texts


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def _packed(held: list[bytes]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(held), np.uint8).reshape(-1, DIGEST_BYTES)


def _unpacked(held: npt.NDArray[np.uint8]) -> list[bytes]:
    return [row.tobytes() for row in held]
