"""The safetensors file format, read by header: names, dtypes and shapes without the data.

Format: eight bytes little-endian header length N, N bytes of JSON, then the tensors' bytes
(https://github.com/huggingface/safetensors#format). Every length is checked against the file
before it is believed.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import CheckpointError

if TYPE_CHECKING:
    import torch

MAX_HEADER_BYTES = 100_000_000
"""The format's own bound; a longer header is an attack or a damaged file."""

BITS: dict[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
MAX_DIMENSIONS = 64
MAX_ELEMENTS = 2**62
"""Larger shapes are lies that torch cannot count."""
FLOATING = frozenset({"F16", "BF16", "F32", "F64"})
TORCH_NAMES: dict[str, str] = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16",
    "BF16": "bfloat16", "I32": "int32", "U32": "uint32", "F32": "float32", "F64": "float64",
    "I64": "int64", "U64": "uint64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip
SAFETENSORS_NAMES = {torch_name: name for name, torch_name in TORCH_NAMES.items()}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a header says of a tensor: dtype by its safetensors name (``BF16``), and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes of the data."""
        return self.size * BITS[self.dtype] // 8

    @property
    def floating(self) -> bool:
        """Whether it takes part in arithmetic (8-bit floats are storage formats and do not)."""
        return self.dtype in FLOATING


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a tensor's bytes lie in its file."""

    info: TensorInfo
    offset: int


class SafetensorsFile:
    """One safetensors file; the constructor reads and checks the header only.

    Raises:
        CheckpointError: if the file is missing, truncated, or its header is not to be believed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata, self.extents = _read_header(path)

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor in its stored dtype, in memory of its own.

        Raises:
            CheckpointError: if the file has become shorter since the header was read, or is gone.
        """
        import torch

        extent = self.extents[name]
        dtype: torch.dtype = getattr(torch, TORCH_NAMES[extent.info.dtype])
        if extent.info.nbytes == 0:
            return torch.empty(extent.info.shape, dtype=dtype)
        buffer = bytearray(extent.info.nbytes)
        view = memoryview(buffer)
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(extent.offset)
                filled = 0
                while filled < len(buffer):
                    count = file.readinto(view[filled:])
                    if not count:
                        raise _damaged(self.path, f"ends inside tensor {name!r}")
                    filled += count
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return torch.frombuffer(buffer, dtype=dtype).reshape(extent.info.shape)


def _read_header(path: Path) -> tuple[dict[str, str], dict[str, Extent]]:
    try:
        with path.open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            if len(prefix) < 8:
                raise _damaged(path, "is too short to hold a header")
            length = int.from_bytes(prefix, "little")
            if length > min(MAX_HEADER_BYTES, total - 8):
                raise _damaged(path, f"claims a header of {length} bytes in a file of {total}")
            header = json.loads(file.read(length))
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "has a header that is not JSON") from error
    if not isinstance(header, dict):
        raise _damaged(path, "has a header that is not a JSON object")
    metadata = header.pop("__metadata__", {})
    extents = {
        name: _extent(path, name, entry, 8 + length, total) for name, entry in header.items()
    }
    _refuse_overlaps(path, extents)
    return metadata if isinstance(metadata, dict) else {}, extents


def _extent(path: Path, name: str, entry: Any, data_start: int, total: int) -> Extent:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(
            path, f"describes tensor {name!r} in a way that is not the format"
        ) from error
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise _damaged(path, f"describes tensor {name!r} in a way that is not the format")
    if dtype not in BITS:
        raise CheckpointError(
            f"tensor {name!r} has the unknown dtype {dtype!r}.", where=str(path),
            fix="Quantised formats cannot be read; use the unquantised model.",
        )  # fmt: skip
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise _damaged(path, f"gives tensor {name!r} a shape or offset that is not a whole number")
    if max(numbers) > MAX_ELEMENTS or len(shape) > MAX_DIMENSIONS:
        raise _damaged(path, f"gives tensor {name!r} a shape or offset that no file can hold")
    if math.prod(max(n, 1) for n in shape) > MAX_ELEMENTS:
        raise _damaged(path, f"gives tensor {name!r} a shape that no file can hold")
    info = TensorInfo(dtype, tuple(shape))
    if end - begin != info.nbytes:
        raise _damaged(
            path, f"gives tensor {name!r} {end - begin} bytes, its shape needs {info.nbytes}"
        )
    if data_start + end > total:
        raise _damaged(path, f"ends before the data of tensor {name!r}")
    return Extent(info, data_start + begin)


def _refuse_overlaps(path: Path, extents: dict[str, Extent]) -> None:
    position, previous = 0, ""
    for name, extent in sorted(extents.items(), key=lambda item: item[1].offset):
        if extent.info.nbytes and extent.offset < position:
            raise _damaged(path, f"lets tensors {previous!r} and {name!r} overlap")
        if extent.info.nbytes:
            position, previous = extent.offset + extent.info.nbytes, name


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"cannot be read: {error.strerror}.", where=str(path))


def _damaged(path: Path, how: str) -> CheckpointError:
    return CheckpointError(
        f"the file {how}.", where=str(path), fix="Download or copy it again; it is damaged."
    )
