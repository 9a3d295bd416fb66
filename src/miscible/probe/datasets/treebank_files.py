"""Which files make a treebank, and a sample of its sentences.

Each file is a treebank of its own, unless files of one folder differ in nothing but ``-train``,
``-dev`` and ``-test`` and the first and last of these are there: these are one treebank, with the
split that its makers gave it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

from miscible.errors import DatasetError
from miscible.probe.contract import SourceOptions
from miscible.probe.dataset import UNKNOWN_LANGUAGE, Role
from miscible.probe.datasets.conllu_lines import read_sentences
from miscible.probe.datasets.corpus_files import CorpusFile, corpus_files
from miscible.probe.datasets.drawing import (
    DEFAULT_EXAMPLES,
    SHARES,
    first_ranked,
    rank,
)
from miscible.probe.datasets.treebank import Sentence

SUFFIXES = frozenset({".conllu"})

EXAMPLES_PER_SENTENCE = 2
"""Half as many sentences are drawn as examples of a task: a sentence is encoded but once for all
its examples of all tasks."""

MIN_SENTENCES = 100
"""With a small limit still enough sentences for the rarer classes."""

_PART = re.compile(r"(.+?)(?:-ud)?-(train|dev|test)")
_LANGUAGE = re.compile(r"([a-z]{2,3})_")


class Placed(NamedTuple):
    """A sentence and its part in the treebank's own split, empty for none."""

    sentence: Sentence
    role: Role


@dataclass
class Treebank:
    """One treebank, not read yet.

    Attributes:
        name: file name without suffix (and without the part, if there are several).
        files: with the part that each is.
        excluded: by reason, the sentences that could not be used, as far as they were read.
    """

    name: str
    files: Sequence[tuple[CorpusFile, Role]]
    excluded: Counter[str] = field(default_factory=Counter)

    @property
    def language(self) -> str:
        """BCP 47 tag: what stands before the first ``_`` of the name (``de_gsd``)."""
        found = _LANGUAGE.match(self.name)
        return found[1] if found else UNKNOWN_LANGUAGE

    @property
    def where(self) -> str:
        """Its first file, for messages."""
        first = self.files[0][0]
        return str(first.parent / first.path)

    def sentences(self) -> Iterator[Placed]:
        """Yield all sentences that can be used."""
        for file, role in self.files:
            for sentence in read_sentences(file, self.excluded):
                yield Placed(sentence, role)

    def sample(self, options: SourceOptions) -> list[Placed]:
        """Return sentences for ``options.limit`` examples a task, no text twice.

        They are spread over a given split as `SHARES` says, and come in the order of the seed.
        All of the treebank is read, so that a broken line is told wherever it stands.
        """
        wanted = max(MIN_SENTENCES, (options.limit or DEFAULT_EXAMPLES) // EXAMPLES_PER_SENTENCE)
        texts: set[str] = set()

        def fresh(file: CorpusFile, role: Role) -> Iterator[Placed]:
            for sentence in read_sentences(file, self.excluded):
                if sentence.text in texts:
                    self.excluded["sentences repeated"] += 1
                else:
                    texts.add(sentence.text)
                    yield Placed(sentence, role)

        drawn: list[Placed] = []
        for file, role in self.files:
            count = max(1, round(wanted * SHARES.get(role, 1.0)))
            drawn += first_ranked(
                fresh(file, role), count, lambda placed: rank(options.seed, placed.sentence.id)
            )
        return drawn


def treebanks(path: str, options: SourceOptions) -> Iterator[Treebank]:
    """Yield the treebanks at *path*: a file, or a folder or zip of them.

    Raises:
        DatasetError: the path cannot be read, or holds no ``.conllu``.
    """
    corpus = (options.relative_to or Path()) / Path(path).expanduser()
    grouped: dict[tuple[str, str], list[tuple[CorpusFile, Role]]] = {}
    for file in corpus_files(corpus, SUFFIXES):
        if file.suffix not in SUFFIXES:
            raise DatasetError(
                "the file does not end in .conllu (or .conllu.gz).",
                where=str(file.parent / file.path),
            )
        part = _PART.fullmatch(file.stem)
        name, role = (part[1], cast(Role, part[2])) if part else (file.stem, "")
        grouped.setdefault((str(file.path.parent), name), []).append((file, role))
    for (_, name), files in grouped.items():
        roles = {role for _, role in files}
        if len(roles) == len(files) and {"train", "test"} <= roles:
            order = list(SHARES)
            yield Treebank(name, sorted(files, key=lambda each: order.index(each[1])))
        else:
            for file, _ in files:
                yield Treebank(file.stem, [(file, "")])
