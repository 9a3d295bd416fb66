"""The safetensors file format, read by header: names, dtypes and shapes without the data.

Format: eight bytes little-endian header length N, N bytes of JSON, then the tensors' bytes
(https://github.com/huggingface/safetensors#format). Every length is checked against the file
before it is believed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import CheckpointError

if TYPE_CHECKING:
    import torch

PREFIX_BYTES = 8
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


def promoted(dtypes: Sequence[str]) -> str:
    """Return the smallest floating dtype that holds all of these; F16 and BF16 make F32."""
    widest = max(dtypes, key=lambda dtype: BITS[dtype])
    return "F32" if BITS[widest] == 16 and len(set(dtypes)) > 1 else widest


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
                        raise _damaged(str(self.path), f"ends inside tensor {name!r}")
                    filled += count
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return torch.frombuffer(buffer, dtype=dtype).reshape(extent.info.shape)


def read_rows(path: Path, extent: Extent, first: int, last: int) -> torch.Tensor:
    """Return rows [first, last) of a tensor in its stored dtype, in memory of their own.

    Raises:
        CheckpointError: if the file has become shorter since the header was read, or is gone.
    """
    import torch

    shape = (last - first, *extent.info.shape[1:])
    dtype: torch.dtype = getattr(torch, TORCH_NAMES[extent.info.dtype])
    width = math.prod(extent.info.shape[1:]) * BITS[extent.info.dtype] // 8
    if not width or last <= first:
        return torch.empty(shape, dtype=dtype)
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(extent.offset + first * width)
            held = bytearray((last - first) * width)
            filled = file.readinto(held)
    except OSError as error:
        raise _unreadable(path, error) from error
    if filled < len(held):
        raise _damaged(str(path), "ends inside a tensor")
    return torch.frombuffer(held, dtype=dtype).reshape(shape)


def header_length(prefix: bytes, total: int, where: str) -> int:
    """Return the number of bytes of the JSON that follows the first eight bytes of a file.

    Args:
        prefix: the first eight bytes, fewer if the file has no more.
        total: size of the file.
        where: what errors call the file.

    Raises:
        CheckpointError: if the file cannot hold such a header.
    """
    if len(prefix) < PREFIX_BYTES:
        raise _damaged(where, "is too short to hold a header")
    length = int.from_bytes(prefix[:PREFIX_BYTES], "little")
    if length > min(MAX_HEADER_BYTES, total - PREFIX_BYTES):
        raise _damaged(where, f"claims a header of {length} bytes in a file of {total}")
    return length


def parse_header(head: bytes, total: int, where: str) -> tuple[dict[str, str], dict[str, Extent]]:
    """Return metadata and tensors of a file whose first bytes are *head*: prefix and JSON.

    Args:
        head: at least the whole header, as it stands in the file.
        total: size of the file.
        where: what errors call the file.

    Raises:
        CheckpointError: if the header is not to be believed.
    """
    end = PREFIX_BYTES + header_length(head, total, where)
    try:
        header = json.loads(head[PREFIX_BYTES:end])
    except (ValueError, RecursionError) as error:
        raise _damaged(where, "has a header that is not JSON") from error
    if not isinstance(header, dict):
        raise _damaged(where, "has a header that is not a JSON object")
    _refuse_unwritable_names(where, header)
    metadata = header.pop("__metadata__", {})
    # Models of many experts repeat a few shapes ten thousands of times: each is checked once.
    known: dict[tuple[Any, ...], tuple[TensorInfo, int]] = {}
    extents = {
        name: _extent(where, name, entry, end, total, known) for name, entry in header.items()
    }
    _refuse_overlaps(where, extents)
    return metadata if isinstance(metadata, dict) else {}, extents


def _read_header(path: Path) -> tuple[dict[str, str], dict[str, Extent]]:
    try:
        with path.open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            prefix = file.read(PREFIX_BYTES)
            head = prefix + file.read(header_length(prefix, total, str(path)))
    except OSError as error:
        raise _unreadable(path, error) from error
    return parse_header(head, total, str(path))


def _extent(
    where: str,
    name: str,
    entry: Any,
    data_start: int,
    total: int,
    known: dict[tuple[Any, ...], tuple[TensorInfo, int]],
) -> Extent:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise _not_the_format(where, name) from error
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise _not_the_format(where, name)
    if type(begin) is not int or type(end) is not int or begin < 0 or end < 0:
        raise _not_whole(where, name)
    try:
        # Values that are equal but of another type (1.0, true) must not pass for the whole number.
        kind = (dtype, *shape, *map(type, shape))
        found = known.get(kind)
    except TypeError as error:
        raise _not_whole(where, name) from error
    if found is None:
        info = _checked(where, name, dtype, shape)
        found = known[kind] = info, info.nbytes
    info, nbytes = found
    if max(begin, end) > MAX_ELEMENTS:
        raise _damaged(where, f"gives tensor {name!r} a shape or offset that no file can hold")
    if end - begin != nbytes:
        raise _damaged(
            where, f"gives tensor {name!r} {end - begin} bytes, its shape needs {nbytes}"
        )
    if data_start + end > total:
        raise _damaged(where, f"ends before the data of tensor {name!r}")
    return Extent(info, data_start + begin)


def _checked(where: str, name: str, dtype: str, shape: list[Any]) -> TensorInfo:
    if dtype not in BITS:
        raise CheckpointError(
            f"tensor {name!r} has the unknown dtype {dtype!r}.", where=where,
            fix="Quantised formats cannot be read; use the unquantised model.",
        )  # fmt: skip
    if not all(type(n) is int and n >= 0 for n in shape):
        raise _not_whole(where, name)
    if len(shape) > MAX_DIMENSIONS or any(n > MAX_ELEMENTS for n in shape):
        raise _damaged(where, f"gives tensor {name!r} a shape or offset that no file can hold")
    if math.prod(max(n, 1) for n in shape) > MAX_ELEMENTS:
        raise _damaged(where, f"gives tensor {name!r} a shape that no file can hold")
    return TensorInfo(dtype, tuple(shape))


def _refuse_overlaps(where: str, extents: dict[str, Extent]) -> None:
    position, previous = 0, ""
    sizes: dict[int, int] = {}
    for name, extent in sorted(extents.items(), key=_offset):
        size = sizes.get(id(extent.info))  # infos are shared by equal tensors, and held
        if size is None:
            size = sizes[id(extent.info)] = extent.info.nbytes
        if size and extent.offset < position:
            raise _damaged(where, f"lets tensors {previous!r} and {name!r} overlap")
        if size:
            position, previous = extent.offset + size, name


def _offset(item: tuple[str, Extent]) -> int:
    return item[1].offset


def _refuse_unwritable_names(where: str, header: dict[str, Any]) -> None:
    # Half a surrogate pair can stand in JSON, but neither be shown nor be written.
    try:
        "".join(header).encode()
    except UnicodeEncodeError as error:
        raise _damaged(where, "has a tensor's name that is not Unicode") from error


def _not_the_format(where: str, name: str) -> CheckpointError:
    return _damaged(where, f"describes tensor {name!r} in a way that is not the format")


def _not_whole(where: str, name: str) -> CheckpointError:
    return _damaged(where, f"gives tensor {name!r} a shape or offset that is not a whole number")


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"cannot be read: {error.strerror}.", where=str(path))


def _damaged(where: str, how: str) -> CheckpointError:
    return CheckpointError(
        f"the file {how}.", where=where, fix="Download or copy it again; it is damaged."
    )
