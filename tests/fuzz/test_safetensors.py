"""Whatever stands in a header, it is a file that can be read or one clear error."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save

from fuzz.examples import fuzz
from miscible.errors import CheckpointError
from miscible.models.formats.safetensors import SafetensorsFile

WHOLE = save(
    {
        "model.embed_tokens.weight": torch.randn(3, 4),
        "b": torch.ones(5, dtype=torch.bfloat16),
        "c.scalar": torch.tensor(1.5, dtype=torch.float16),
        "d.empty": torch.zeros(0, 7),
        "e": torch.arange(6).reshape(2, 3),
        "f": torch.tensor([True, False]),
    },
    metadata={"format": "pt"},
)
LENGTH = int.from_bytes(WHOLE[:8], "little")
HEADER: dict[str, Any] = json.loads(WHOLE[8 : 8 + LENGTH])
DATA = WHOLE[8 + LENGTH :]

numbers = st.one_of(
    st.integers(-3, 130),
    st.sampled_from([2**31, 2**62, 2**63, 2**64, -(2**63), 10**30, 1.0, 1e308, True, None]),
)
scalars = st.one_of(
    numbers,
    st.sampled_from(["", "F32", "BF16", "F8_E4M3", "Q4_K", "f32", "__metadata__", "\ud800", "\0"]),
    st.text(max_size=4),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every node of a document."""
    found = [path]
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(
        value, list
    ) else ()  # fmt: skip
    for key, item in entries:
        found += paths(item, (*path, key))
    return found


@st.composite
def mutated_headers(draw: st.DrawFn) -> bytes:
    """Return a file whose header was changed in some places, as JSON."""
    header = copy.deepcopy(HEADER)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths(header)[1:] or [()]))
        if not path:
            break
        holder: Any = header
        for key in path[:-1]:
            holder = holder[key]
        change = draw(st.sampled_from(["set", "remove", "rename", "add"]))
        if change == "set":
            holder[path[-1]] = draw(values)
        elif change == "remove":
            del holder[path[-1]]
        elif isinstance(holder, dict):
            name = draw(st.one_of(st.text(max_size=8), st.sampled_from(["b", "shape", "\udfff"])))
            held = holder[path[-1]] if change == "add" else holder.pop(path[-1])
            holder[name] = copy.deepcopy(held)
        else:
            holder.append(draw(numbers))
    text = json.dumps(header, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    data = DATA[: draw(st.sampled_from([len(DATA), len(DATA) - 1, 0]))]
    return len(text).to_bytes(8, "little") + text + data


@st.composite
def mutated_bytes(draw: st.DrawFn) -> bytes:
    """Return a file in which bytes were changed, left out or put in."""
    data = bytearray(WHOLE)
    for _ in range(draw(st.integers(1, 6))):
        end = draw(st.sampled_from([12, LENGTH + 8, max(len(data), 1)]))
        place = draw(st.integers(0, min(end, max(len(data), 1)) - 1))
        change = draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        if change == "flip" and data:
            data[place] = draw(st.one_of(st.integers(0, 255), st.sampled_from(b'"[]{},:-0e.9')))
        elif change == "cut":
            del data[place : place + draw(st.integers(1, 40))]
        elif change == "insert":
            data[place:place] = draw(st.binary(max_size=9))
        else:
            data[place:place] = data[place : place + draw(st.integers(1, 60))]
    return bytes(data)


def check(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        file = SafetensorsFile(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        str(error).encode()  # it can be shown
        return
    for name, extent in file.extents.items():
        name.encode()
        assert extent.offset + extent.info.nbytes <= len(content) or not extent.info.nbytes
        assert tuple(file.read(name).shape) == extent.info.shape


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "x.safetensors"


def test_the_unchanged_file_is_read(place: Path) -> None:
    check(place, WHOLE)
    assert SafetensorsFile(place).extents.keys() == HEADER.keys() - {"__metadata__"}


@fuzz
@given(content=mutated_headers())
def test_changed_headers(place: Path, content: bytes) -> None:
    check(place, content)


@fuzz
@given(content=mutated_bytes())
@example(content=b"")
@example(content=WHOLE[:7])
@example(content=(2**64 - 1).to_bytes(8, "little") + WHOLE[8:])
def test_changed_bytes(place: Path, content: bytes) -> None:
    check(place, content)
