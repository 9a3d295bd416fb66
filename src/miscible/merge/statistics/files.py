"""The statistics file: one tensor a weight, by the weight's name, in a safetensors file.

======  ============================  =========================================================
kind    read as                       stored as
======  ============================  =========================================================
fisher  the weight's shape            that shape, float32 or bfloat16
gram    [in, in], or [1, in, in] for  the upper triangle row by row, [in (in + 1) / 2], float32
        weights stored [in, out]      (names of the latter weights: metadata ``transposed``)
======  ============================  =========================================================

The metadata holds the kind, the model's fingerprint, the numbers of examples and tokens, the seed,
the version of the format and a SHA-256 over the tensors: nothing about texts, machines or paths.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from miscible.errors import CheckpointError, MiscibleError
from miscible.models.fingerprint import digest_of
from miscible.models.formats.safetensors import SAFETENSORS_NAMES, SafetensorsFile

if TYPE_CHECKING:
    import torch

Kind: TypeAlias = Literal["gram", "fisher"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FORMAT, VERSION = "miscible statistics", "1"


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Statistics in memory.

    Attributes:
        kind: ``gram`` (E[x x'] of a linear layer's inputs) or ``fisher`` (mean squared gradient of
            an example's log-likelihood).
        tensors: by the weight's name, float32; see the module for shapes.
        examples, tokens: how much data they were collected on.
        model: fingerprint of the model.
        seed: of sampled labels.
    """

    kind: Kind
    tensors: Mapping[str, torch.Tensor]
    examples: int
    tokens: int
    model: str = ""
    seed: int = 0


class StatisticsFile:
    """A statistics file; the constructor reads and checks its header only.

    Attributes:
        kind, model, examples, tokens, seed: see `Statistics`.
        digest: the SHA-256 over the tensors that the file claims (`verify` computes it).

    Raises:
        CheckpointError: if the file is missing, damaged, or holds no statistics.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = SafetensorsFile(path)
        metadata = self._file.metadata
        if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
            raise CheckpointError(
                "the file holds no calibration statistics of this version.",
                where=str(path), fix="Make it with 'miscible statistics'.",
            )  # fmt: skip
        self.kind = parse_kind(str(metadata.get("kind")))
        self.model = str(metadata.get("model", ""))
        self.digest = str(metadata.get("sha256", ""))
        self.examples, self.tokens, self.seed = (
            _whole(path, metadata, key) for key in ("examples", "tokens", "seed")
        )
        self._transposed = _names(path, metadata)

    @property
    def names(self) -> list[str]:
        """The weights that it has a tensor for."""
        return list(self._file.extents)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file; part of the fingerprint of every merge that uses it."""
        return digest_of(self.path)

    def read(self, name: str) -> torch.Tensor | None:
        """Return the float32 tensor of weight *name*, None if there is none for it.

        Raises:
            CheckpointError: if it holds NaN or infinity, or has no shape that its kind can have.
        """
        if name not in self._file.extents:
            return None
        info = self._file.extents[name].info
        if info.dtype not in ("F32", "BF16"):
            raise _damaged(self.path, f"stores {name!r} as {info.dtype}")
        width = _triangle_width(info.size)
        if self.kind == "gram" and (len(info.shape) != 1 or width is None):
            raise _damaged(self.path, f"stores {name!r} with shape {info.shape}, not a triangle")
        tensor = self._file.read(name).float()
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"the statistics of {name!r} hold NaN or infinity.",
                where=str(self.path), fix="Collect them again in float32.",
            )  # fmt: skip
        if width is None or self.kind == "fisher":
            return tensor
        gram = _unpacked(tensor, width)
        return gram.unsqueeze(0) if name in self._transposed else gram

    def verify(self) -> None:
        """Read every tensor and compare the digest.

        Raises:
            CheckpointError: if the tensors are not those that the file was written with.
        """
        stored = {name: self._file.read(name) for name in sorted(self._file.extents)}
        if _digest(stored) != self.digest:
            raise _damaged(self.path, "does not hold the tensors that it was written with")


def parse_kind(name: str) -> Kind:
    """Return the kind of statistics of that name.

    Raises:
        MiscibleError: if there is none.
    """
    for kind in KINDS:
        if kind == name:
            return kind
    raise MiscibleError(f"{name!r} is no kind of statistics.", fix=f"Use {' or '.join(KINDS)}.")


def check_stored_dtype(kind: Kind, dtype: str) -> None:
    """Refuse a dtype in which statistics of this kind cannot be stored.

    Raises:
        MiscibleError: unless it is float32, or bfloat16 for a Fisher.
    """
    if dtype != "float32" and (dtype != "bfloat16" or kind != "fisher"):
        raise MiscibleError(f"{kind} statistics cannot be stored in {dtype}.", fix="Use float32.")


def write_statistics(path: Path, statistics: Statistics, *, dtype: str = "float32") -> None:
    """Write a statistics file, whole or not at all.

    Args:
        path: the file; one that exists is replaced.
        statistics: what to write.
        dtype: ``float32``, or ``bfloat16`` to halve a Fisher (a Gram would lose its definiteness).

    Raises:
        CheckpointError: if it cannot be written.
        MiscibleError: if *dtype* does not suit it.
    """
    import torch

    check_stored_dtype(statistics.kind, dtype)
    target: torch.dtype = getattr(torch, dtype)
    stored: dict[str, torch.Tensor] = {}
    transposed = []
    for name, tensor in statistics.tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"the statistics of {name!r} hold NaN or infinity.")
        if statistics.kind == "gram":
            transposed += [name] if tensor.dim() == 3 else []
            tensor = _packed(tensor.reshape(tensor.shape[-2:]))
        stored[name] = tensor.to("cpu", target).contiguous()
    metadata = {
        "format": FORMAT, "version": VERSION, "kind": statistics.kind, "model": statistics.model,
        "examples": str(statistics.examples), "tokens": str(statistics.tokens),
        "seed": str(statistics.seed), "transposed": json.dumps(transposed),
        "sha256": _digest(stored),
    }  # fmt: skip
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(_header(stored, metadata))
            for name in sorted(stored):
                file.write(_bytes(stored[name]))
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        message = f"it cannot be written: {error.strerror}."
        raise CheckpointError(message, where=str(path)) from error


def _header(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    # Written here because the library orders metadata at random: the same statistics are the same
    # bytes, so that the hash of a published file means something.
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    position = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        end = position + tensor.nbytes
        header[name] = {
            "dtype": SAFETENSORS_NAMES[str(tensor.dtype).removeprefix("torch.")],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start aligned
    return len(text).to_bytes(8, "little") + text


def _bytes(tensor: torch.Tensor) -> memoryview:
    import torch

    return tensor.contiguous().flatten().view(torch.uint8).numpy().data


def _packed(gram: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat([row[start:] for start, row in enumerate(gram)])


def _unpacked(triangle: torch.Tensor, width: int) -> torch.Tensor:
    gram = triangle.new_empty(width, width)
    start = 0
    for row in range(width):
        part = triangle[start : start + width - row]
        gram[row, row:] = part
        gram[row:, row] = part
        start += width - row
    return gram


def _triangle_width(length: int) -> int | None:
    width = (math.isqrt(8 * length + 1) - 1) // 2
    return width if width * (width + 1) // 2 == length else None


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(_bytes(tensor))
    return total.hexdigest()


def _whole(path: Path, metadata: Mapping[str, Any], key: str) -> int:
    value = metadata.get(key)
    if not isinstance(value, str) or not value.isdecimal() or len(value) > 20:
        raise _damaged(path, f"gives no whole number as {key!r}")
    return int(value)


def _names(path: Path, metadata: Mapping[str, Any]) -> frozenset[str]:
    try:
        names = json.loads(metadata.get("transposed", "[]"))
    except (TypeError, ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _damaged(path, "gives no list of names as 'transposed'")
    return frozenset(names)


def _damaged(path: Path, how: str) -> CheckpointError:
    return CheckpointError(f"the file {how}.", where=str(path), fix="Make or download it again.")
