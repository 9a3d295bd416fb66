"""Text files of a corpus, wherever they lie: a file, a folder, a zip; plain or gzipped.

They are read by `miscible.files`, so that neither a path inside an archive nor a decompression bomb
does harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from miscible import files
from miscible.errors import DatasetError
from miscible.files import open_archive, read_file, read_member

_DOCUMENTS = frozenset({"readme", "licence", "license", "copying", "notice", "source", "changelog"})


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One decompressed file.

    Attributes:
        parent: the folder or archive that holds it.
        path: path within *parent*, with ``/``.
        corpus: name of the folder or archive that the user named, and of the archive within the
            folder; empty if it was this file.
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
        place = str(self.parent / self.path)
        content = self.content.removeprefix(b"\xef\xbb\xbf").rstrip()
        for number, raw in enumerate(content.split(b"\n") if content else [], 1):
            where = f"{place}:{number}"
            try:
                yield where, raw.decode().strip()
            except UnicodeDecodeError as error:
                raise DatasetError(
                    f"the line is not UTF-8 ({error.reason} at byte {error.start}).",
                    where=where,
                    fix="Convert the file to UTF-8.",
                ) from None


def corpus_files(
    corpus: Path, suffixes: frozenset[str], *, archives: bool = False
) -> Iterator[CorpusFile]:
    """Yield the files of *corpus* that have one of *suffixes*, in alphabetical order.

    A file that is named directly is always yielded. Archives in a folder are opened if *archives*
    is true, those in archives never. Hidden files, what macOS adds to archives, and
    documents (README, LICENSE, ...) are passed over.

    Raises:
        DatasetError: the corpus is missing, empty, damaged, encrypted, or a file is too large.
    """
    if corpus.is_dir():
        found = _folder(corpus, suffixes, archives)
    elif corpus.is_file():
        found = _archive(corpus, suffixes) if _suffix(corpus) == ".zip" else _single(corpus)
    else:
        raise DatasetError("there is no such file or folder.", where=str(corpus))
    total = None
    for file in found:
        total = (total or 0) + len(file.content)
        if total > files.MAX_TOTAL_BYTES:
            limit = files.MAX_TOTAL_BYTES // 2**20
            raise DatasetError(f"the files exceed {limit} MiB together.", where=str(corpus))
        yield file
    if total is None:
        known = ", ".join(sorted(suffixes))
        raise DatasetError(f"no file ends in {known} (or that with .gz).", where=str(corpus))


def _single(path: Path) -> Iterator[CorpusFile]:
    yield CorpusFile(path.parent, PurePosixPath(path.name), "", read_file(path))


def _folder(folder: Path, suffixes: frozenset[str], archives: bool) -> Iterator[CorpusFile]:
    for path in sorted(folder.rglob("*")):
        inside = PurePosixPath(path.relative_to(folder).as_posix())
        name = folder.resolve().name
        if path.is_file() and _wanted(inside, suffixes):
            yield CorpusFile(folder, inside, name, read_file(path))
        elif archives and path.is_file() and _wanted(inside, frozenset({".zip"})):
            yield from _archive(path, suffixes, f"{name}/")


def _archive(archive: Path, suffixes: frozenset[str], within: str = "") -> Iterator[CorpusFile]:
    with open_archive(archive) as opened:
        for name in sorted(opened.namelist()):
            inside = PurePosixPath(name)
            if not name.endswith("/") and _wanted(inside, suffixes):
                yield CorpusFile(archive, inside, within + archive.stem, read_member(opened, name))


def _suffix(path: PurePosixPath | Path) -> str:
    return PurePosixPath(path.name.lower().removesuffix(".gz")).suffix


def _wanted(path: PurePosixPath, suffixes: frozenset[str]) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in path.parts)
    document = path.name.split(".")[0].lower() in _DOCUMENTS
    return _suffix(path) in suffixes and not hidden and not document
