"""Text files of a corpus, wherever they lie: a file, a folder, a zip; plain or gzipped.

Nothing is ever unpacked to disk, and no file is read beyond `MAX_BYTES`, so that neither a path
inside an archive nor a decompression bomb does harm.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from miscible.errors import DatasetError

MAX_BYTES = 256 * 2**20
"""Most bytes of one decompressed file."""

MAX_TOTAL_BYTES = 4 * MAX_BYTES
"""Most decompressed bytes of one corpus."""

_DOCUMENTS = frozenset({"readme", "licence", "license", "copying", "notice", "source", "changelog"})


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One decompressed file.

    Attributes:
        parent: the folder or archive that holds it.
        path: path within *parent*, with ``/``.
        corpus: name of the folder or archive that the user named, empty if it was this file.
        content: the bytes.
    """

    parent: Path
    path: PurePosixPath
    corpus: str
    content: bytes

    @property
    def stem(self) -> str:
        """File name without ``.gz`` and without its suffix."""
        return PurePosixPath(self.path.name.removesuffix(".gz")).stem

    @property
    def suffix(self) -> str:
        """Suffix below ``.gz``, in lower case."""
        return _suffix(self.path)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield (place, stripped line) up to the last line that is not blank.

        The place is ``file:number``.

        Raises:
            DatasetError: a line that is not UTF-8, with its place.
        """
        content = self.content.removeprefix(b"\xef\xbb\xbf").rstrip()
        for number, raw in enumerate(content.split(b"\n") if content else [], 1):
            where = f"{self.parent / self.path}:{number}"
            try:
                yield where, raw.decode().strip()
            except UnicodeDecodeError as error:
                raise DatasetError(
                    f"the line is not UTF-8 ({error.reason} at byte {error.start}).",
                    where=where,
                    fix="Convert the file to UTF-8.",
                ) from None


def corpus_files(corpus: Path, suffixes: frozenset[str]) -> Iterator[CorpusFile]:
    """Yield the files of *corpus* that have one of *suffixes*, in alphabetical order.

    A file that is named directly is always yielded. Hidden files, what macOS adds to archives, and
    documents (README, LICENSE, ...) are passed over.

    Raises:
        DatasetError: the corpus is missing, empty, damaged, encrypted, or a file is too large.
    """
    if corpus.is_dir():
        found = _folder(corpus, suffixes)
    elif corpus.is_file():
        found = _archive(corpus, suffixes) if _suffix(corpus) == ".zip" else _single(corpus)
    else:
        raise DatasetError("there is no such file or folder.", where=str(corpus))
    total = None
    for file in found:
        total = (total or 0) + len(file.content)
        if total > MAX_TOTAL_BYTES:
            limit = MAX_TOTAL_BYTES // 2**20
            raise DatasetError(f"the files exceed {limit} MiB together.", where=str(corpus))
        yield file
    if total is None:
        known = ", ".join(sorted(suffixes))
        raise DatasetError(f"no file ends in {known} (or that with .gz).", where=str(corpus))


def _single(path: Path) -> Iterator[CorpusFile]:
    with path.open("rb") as stream:
        content = _read(stream, path.name, str(path))
    yield CorpusFile(path.parent, PurePosixPath(path.name), "", content)


def _folder(folder: Path, suffixes: frozenset[str]) -> Iterator[CorpusFile]:
    for path in sorted(folder.rglob("*")):
        inside = PurePosixPath(path.relative_to(folder).as_posix())
        if path.is_file() and _wanted(inside, suffixes):
            with path.open("rb") as stream:
                content = _read(stream, path.name, str(path))
            yield CorpusFile(folder, inside, folder.resolve().name, content)


def _archive(archive: Path, suffixes: frozenset[str]) -> Iterator[CorpusFile]:
    try:
        with zipfile.ZipFile(archive) as opened:
            for member in sorted(opened.infolist(), key=lambda member: member.filename):
                inside = PurePosixPath(member.filename)
                if member.is_dir() or not _wanted(inside, suffixes):
                    continue
                where = f"{archive}/{inside}"
                if inside.is_absolute() or ".." in inside.parts or "\\" in member.filename:
                    raise DatasetError("the archive's path leads outside of it.", where=where)
                if member.flag_bits & 0x1:
                    raise DatasetError("the file is encrypted.", where=where)
                with opened.open(member) as stream:
                    content = _read(stream, inside.name, where)
                yield CorpusFile(archive, inside, archive.stem, content)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise DatasetError(f"the archive is damaged: {error}.", where=str(archive)) from None


def _read(stream: IO[bytes], name: str, where: str) -> bytes:
    try:
        if name.endswith(".gz"):
            with gzip.open(stream) as unzipped:
                content = unzipped.read(MAX_BYTES + 1)
        else:
            content = stream.read(MAX_BYTES + 1)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DatasetError(f"the file is damaged: {error}.", where=where) from None
    if len(content) > MAX_BYTES:
        raise DatasetError(f"the file is larger than {MAX_BYTES // 2**20} MiB.", where=where)
    return content


def _suffix(path: PurePosixPath | Path) -> str:
    return PurePosixPath(path.name.lower().removesuffix(".gz")).suffix


def _wanted(path: PurePosixPath, suffixes: frozenset[str]) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in path.parts)
    document = path.name.split(".")[0].lower() in _DOCUMENTS
    return _suffix(path) in suffixes and not hidden and not document
