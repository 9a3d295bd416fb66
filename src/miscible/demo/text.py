"""Real text that every Python carries: standard-library source (code) and `pydoc_data` (English).

The split of the source modules is shared by the adapters that ship with the demo (trained on
`train`) and by the demo's tasks (measured on `held_out`), so no task shows text trained on.
"""

import hashlib
import random
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from miscible.errors import DatasetError

Split = Literal["train", "held_out"]

_LEFT_OUT: Final = frozenset(
    (
        *("test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"),
        *("idlelib", "lib2to3", "turtledemo", "ensurepip", "encodings", "pydoc_data"),
    )
)
_MODULE_BYTES: Final = (2_000, 200_000)  # smaller is boilerplate, larger a table
_HELD_OUT_PART: Final = 8  # one module in eight is held out
_TOP_LEVEL: Final = re.compile(r"^(?:async def|def|class) \w+", re.MULTILINE)
_MARKUP: Final = re.compile(r"\*\*|(?<!\w)\*(?=\S)|(?<=\S)\*(?!\w)| ?\[\d+\]")


class Document(NamedTuple):
    """A piece of text and where it comes from (a module or a topic, never a path)."""

    source: str
    text: str


class _Cut(NamedTuple):
    """Bounds of a document's length in characters."""

    least: int
    most: int


def stdlib_modules(split: Split) -> list[Path]:
    """Return the standard library's source files of one split, sorted by relative name.

    A module's side depends on nothing but its name relative to the library folder (`json/decoder`),
    so it is the same for every Python version; files of a package may fall on both sides. Tests,
    installed packages, idlelib, codec tables and platform build data are left out.
    """
    root = stdlib_root()
    chosen = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if any(part in _LEFT_OUT or part.startswith(("config-", "_sysconfig")) for part in parts):
            continue
        if (_split_of("/".join(parts)) == split) and (
            _MODULE_BYTES[0] <= path.stat().st_size <= _MODULE_BYTES[1]
        ):
            chosen.append(path)
    return sorted(chosen, key=lambda path: path.relative_to(root).as_posix())


def stdlib_root() -> Path:
    """Return the folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def _split_of(module: str) -> Split:
    digest = hashlib.sha256(module.encode()).digest()
    return "held_out" if digest[0] % _HELD_OUT_PART == 0 else "train"


def read_source(path: Path) -> str:
    """Read a source file; bytes that are not UTF-8 become U+FFFD."""
    return path.read_text(encoding="utf-8", errors="replace")


def code_documents(count: int, *, seed: int = 0) -> list[Document]:
    """Return `count` pieces of held-out source, one a module as long as modules last.

    A piece starts at a top-level function or class, ends with a line, and has 350 to 550
    characters (about 150 tokens). The same Python version and seed give the same pieces; another
    version has another standard library.

    Raises:
        DatasetError: the standard library's source is not installed or has too few pieces.
    """
    by_module = []
    for path in stdlib_modules("held_out"):
        module = path.relative_to(stdlib_root()).with_suffix("").as_posix()
        text = read_source(path)
        starts = [match.start() for match in _TOP_LEVEL.finditer(text)]
        pieces = [_lines_from(text[at:], _Cut(350, 550)) for at in starts]
        by_module.append([Document(module, piece) for piece in pieces if piece is not None])
    return _draw(by_module, count, seed, "the standard library's source files")


def english_documents(count: int, *, seed: int = 0) -> list[Document]:
    """Return `count` pieces of English prose from `pydoc_data`, one a topic as long as they last.

    A piece joins whole paragraphs of one topic to 400 to 600 characters (about 110 tokens).
    Headings, lists, grammar rules and examples are left out, and emphasis marks taken off.

    Raises:
        DatasetError: `pydoc_data` is not installed or has too few pieces.
    """
    try:
        from pydoc_data.topics import topics
    except ModuleNotFoundError as error:
        raise DatasetError(
            "This Python comes without pydoc_data.", fix="Install its documentation package."
        ) from error
    by_topic, seen = [], set[str]()
    for topic in sorted(topics):
        paragraphs = [text for text in _paragraphs(topics[topic]) if text not in seen]
        seen.update(paragraphs)  # topics quote each other at length
        pieces = _joined(paragraphs, _Cut(400, 600))
        by_topic.append([Document(topic, piece) for piece in pieces])
    return _draw(by_topic, count, seed, "pydoc_data")


def _lines_from(text: str, cut: _Cut) -> str | None:
    """Whole lines from the start of `text`, up to a blank line if one comes late enough."""
    piece = text[: cut.most]
    end = piece.rfind("\n\n", cut.least)
    if end < 0:
        end = piece.rfind("\n", cut.least)
    return None if end < 0 else piece[:end].rstrip() + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text):
        lines = block.splitlines()
        prose = " ".join(line.strip() for line in lines)
        if (
            all(line and not line[0].isspace() for line in lines)
            and prose[:1].isalpha()
            and prose.endswith(".")
            and len(prose) > 120
            and "::=" not in prose
        ):
            yield _MARKUP.sub("", prose)


def _joined(paragraphs: Sequence[str], cut: _Cut) -> Iterator[str]:
    """Join neighbouring paragraphs; what would grow too long is passed over."""
    piece = ""
    for paragraph in paragraphs:
        longer = f"{piece}\n\n{paragraph}" if piece else paragraph
        piece = longer if len(longer) <= cut.most else paragraph
        if cut.least <= len(piece) <= cut.most:
            yield piece + "\n"
            piece = ""


def _draw(
    groups: Sequence[Sequence[Document]], count: int, seed: int, source: str
) -> list[Document]:
    """Go round the groups in a seeded order, taking one document of each a turn."""
    rng = random.Random(seed)
    piles = [rng.sample(group, len(group)) for group in groups if group]
    rng.shuffle(piles)
    drawn: list[Document] = []
    while len(drawn) < count and any(piles):
        drawn += [pile.pop() for pile in piles if pile]
    if len(drawn) < count:
        raise DatasetError(f"Only {len(drawn)} documents in {source}; {count} were asked for.")
    return drawn[:count]
