"""Tasks that any treebank gives: word classes, features, relations, depths and distances.

Words whose characters other words share (see `Word.shared`) are in no task on words. In the tasks
on trees punctuation takes no part, as in structural probes (Hewitt and Manning, ACL N19-1419).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from miscible.probe.dataset import Role
from miscible.probe.datasets.drawing import Candidate, Task
from miscible.probe.datasets.treebank import ROOT, Sentence, Word, tree_distance, values_of
from miscible.probe.datasets.treebank_files import Placed

T = TypeVar("T")

PAIRS_PER_SENTENCE = 4
"""Pairs of words whose distance is asked for; fewer where one is drawn twice."""

PHENOMENA: Mapping[str, str] = {
    "upos": "part_of_speech",
    "deprel": "dependency_relation",
    "depth": "word_depth",
    "tree_depth": "tree_depth",
    "distance": "tree_distance",
}
"""Tasks, besides one for each feature, and what they are about."""

_WORD_WITHIN = re.compile(r"(?<=[a-z])(?=[A-Z])")

FEATURE = "feature"
"""Tasks on features are ``feature/Number`` and so on."""


def treebank_tasks(sentences: Iterable[Placed], seed: int) -> list[Task]:
    """Return all tasks that *sentences* give, whether or not there are examples enough.

    ==================  =========================  ===============================================
    task                input                      label
    ==================  =========================  ===============================================
    ``upos``            word                       universal part of speech
    ``feature/NAME``    word that has the feature  its value
    ``deprel``          dependent, head            universal relation, without subtype
    ``depth``           word                       edges to the root
    ``tree_depth``      sentence                   depth of the deepest word
    ``distance``        two words of a sentence    edges between them
    ==================  =========================  ===============================================
    """
    tasks = {
        "upos": Task("upos", PHENOMENA["upos"], "morphology"),
        "deprel": Task("deprel", PHENOMENA["deprel"], "syntax"),
        **{
            name: Task(name, PHENOMENA[name], "syntax", "regression")
            for name in ("depth", "tree_depth", "distance")
        },
    }
    shared = treeless = 0
    for sentence, role in sentences:
        shared += sum(word.shared for word in sentence.words)
        treeless += sentence.depths is None
        for name, candidate in _candidates(sentence, role, seed):
            if name not in tasks:
                feature = name.partition("/")[2]
                tasks[name] = Task(name, _WORD_WITHIN.sub("_", feature).lower(), "morphology")
            tasks[name].candidates.append(candidate)
    for name, task in tasks.items():
        if name != "tree_depth":
            task.excluded["words that share characters"] = shared
        if task.competence == "syntax":
            task.excluded["sentences without a tree"] = treeless
    return list(tasks.values())


def _candidates(sentence: Sentence, role: Role, seed: int) -> Iterator[tuple[str, Candidate]]:
    words = [(number, word) for number, word in enumerate(sentence.words, 1) if not word.shared]

    def of(label: str | float, *numbered: tuple[int, Word]) -> Candidate:
        return Candidate(
            id="-".join(
                [
                    f"{role}/{sentence.id}" if role else sentence.id,
                    *(str(number) for number, _ in numbered),
                ]
            ),
            text=sentence.text,
            inputs=tuple((word.start, word.stop) for _, word in numbered) or ((0, None),),
            label=label,
            group=sentence.group,
            type=" ".join(word.form.lower() for _, word in numbered),
            role=role,
        )

    for number, word in words:
        if word.upos != "_":
            yield "upos", of(word.upos, (number, word))
        for feature, value in values_of(word.features).items():
            yield f"{FEATURE}/{feature}", of(value, (number, word))
    if sentence.depths is None:
        return
    depths = sentence.depths
    inner = [(number, word) for number, word in words if word.upos != "PUNCT"]
    for number, word in inner:
        yield "depth", of(float(depths[number - 1]), (number, word))
        relation = word.relation.partition(":")[0]
        if word.head in (None, ROOT) or relation in ("punct", "_"):
            continue
        head = sentence.words[word.head - 1]
        if not head.shared:
            yield "deprel", of(relation, (number, word), (word.head, head))
    spoken = zip(depths, sentence.words, strict=True)
    deepest = max((depth for depth, word in spoken if word.upos != "PUNCT"), default=0)
    yield "tree_depth", of(float(deepest))
    for one, other in _pairs(inner, f"{seed}:{sentence.id}"):
        yield "distance", of(float(tree_distance(sentence, one[0], other[0])), one, other)


def _pairs(words: Sequence[T], seed: str) -> list[tuple[T, T]]:
    chosen = random.Random(seed)
    drawn = {
        tuple(sorted(chosen.sample(range(len(words)), 2)))
        for _ in range(PAIRS_PER_SENTENCE)
        if len(words) > 1
    }
    return [(words[first], words[second]) for first, second in sorted(drawn)]
