"""Whatever stands in a file of pairs, it is data sets that hold together or one clear error."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.examples import fuzz
from miscible.errors import DatasetError
from miscible.probe.contract import open_datasets

WHOLE = {
    ".jsonl": b"""{"sentence_good": "A dog runs.", "sentence_bad": "A dog run.", "pairID": "7"}
{"sentence_good": "Cats run.", "sentence_bad": "Cats runs.", "pairID": "8", "phenomenon": "x"}
""",
    ".csv": b"""id,good_sentence,bad_sentence,phenomenon,lang
1,"A ""dog"", runs.",A dog run.,agreement,eng
2,Cats run.,Cats runs.,"agree
ment",English
""",
    ".tsv": b"True\tA dog runs.\nFalse\tA dog run.\nFalse\tCats runs.\nTrue\tCats run.\n",
    ".txt": b"A dog run.\nA dog runs.\nCats runs.\nCats run.\n",
}
WHOLE |= {
    "_.tsv": WHOLE[".csv"].replace(b",", b"\t"),
    "_.txt": b"A dog runs.@@@A dog run.\nCats run.@@@Cats runs.\n",
}
PIECES = [
    b"", b"\n", b"\r", b"\r\n", b"\t", b",", b";", b'"', b'""', b"@@@", b"\x00", b"\xff",
    b"\xef\xbb\xbf", b"True", b"False\t", b"good", b"bad", b"id", b"7", b"null", b"{", b"}",
    b"[" * 2000, b"\\ud800", b" ", b"\xe2\x80\xa8", b"A dog runs.", b"sen\twrong_sen\n",
    b"good,bad\n", b"\x1f\x8b",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a suffix and the bytes of a file of that kind with some places changed."""
    kind = draw(st.sampled_from(sorted(WHOLE)))
    content = WHOLE[kind]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = start + draw(st.sampled_from([0, 0, 1, 5, 40]))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=4))
        again = content[start:stop] if draw(st.booleans()) else b""
        content = content[:start] + piece + again + content[stop:]
    return kind.removeprefix("_"), content


def check(path: Path) -> None:
    try:
        datasets = open_datasets([f"minimal_pairs:{path}"])
    except DatasetError as error:
        assert "fuzz" in str(error) and len(str(error).splitlines()[0]) > 20
        return
    assert datasets
    for dataset in datasets:
        assert len({pair.id for pair in dataset.pairs}) == len(dataset.pairs) > 0
        for pair in dataset.pairs:
            assert pair.good.strip() == pair.good != pair.bad == pair.bad.strip()
            assert pair.good and pair.bad and {pair.good, pair.bad} <= set(dataset.texts)
        assert len(dataset.examples) == 2 * len(dataset.pairs)
        assert set(dataset.excluded) <= {"empty", "identical", "repeated"}
        assert dataset.language and dataset.phenomenon and dataset.key
        json.dumps(dataset.name).encode()


@fuzz
@given(mutated(), st.sampled_from(["", ".gz", ".zip"]))
@example((".csv", b"good,bad\n" + b'"' * 5), "")
@example((".csv", b"good,bad\r1,2\r"), "")
@example((".jsonl", b'{"good": "a", "bad": "b", "lang": ["\\ud800"]}'), "")
def test_a_mutated_file(tmp_path: Path, file: tuple[str, bytes], packing: str) -> None:
    suffix, content = file
    path = tmp_path / f"fuzz{suffix}{packing}"
    if packing == ".zip":
        with zipfile.ZipFile(path, "w") as opened:
            opened.writestr(f"fuzz{suffix}", content)
    else:
        path.write_bytes(gzip.compress(content, mtime=0) if packing else content)
    check(path)


def damaged(whole: bytes, place: int, piece: bytes) -> bytes:
    place %= len(whole)
    return whole[:place] + piece + whole[place + len(piece) :]


damage = (st.integers(0, 400), st.binary(max_size=3))


@fuzz
@given(mutated(), *damage)
def test_a_damaged_gzip(tmp_path: Path, file: tuple[str, bytes], place: int, piece: bytes) -> None:
    suffix, content = file
    path = tmp_path / f"fuzz{suffix}.gz"
    path.write_bytes(damaged(gzip.compress(content, mtime=0), place, piece))
    check(path)


@fuzz
@given(mutated(), *damage)
@example((".txt", WHOLE[".txt"]), 0, b"P")
def test_a_damaged_zip(tmp_path: Path, file: tuple[str, bytes], place: int, piece: bytes) -> None:
    suffix, content = file
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(f"fuzz{suffix}", content)
    path = tmp_path / "fuzz.zip"
    whole = stream.getvalue()
    path.write_bytes(damaged(whole, place, piece))
    check(path)
    path.write_bytes(whole[1:])  # every offset in it points one byte too far
    check(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
keys = st.sampled_from(
    ["good", "bad", "pairID", "ID", "sen", "wrong_sen", "lang", "phenomenon", "UID", "field", "x"]
)


@fuzz
@given(st.lists(values | st.dictionaries(keys, values | st.text(max_size=5)), max_size=4))
def test_any_json(tmp_path: Path, rows: list[Any]) -> None:
    path = tmp_path / "fuzz.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    check(path)


@fuzz
@given(st.sampled_from([".jsonl", ".csv", ".tsv", ".txt", ".zip", ".csv.gz"]), st.binary())
def test_any_bytes(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(content)
    check(path)
