"""Tasks on what a passage speaks of, and on how its parts hang together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import NamedTuple

from miscible.probe.contract import SourceOptions
from miscible.probe.datasets.discourse_units import Unit, units_of
from miscible.probe.datasets.drawing import Candidate, Task, rank, size_of
from miscible.probe.datasets.mentions import Mention, attributes_of, head_of, mentions_of
from miscible.probe.datasets.passages import Passage

TASKS = ("entity_type", "information_status", "coreference", "discourse_relation")

_DEFAULT_ATTRIBUTES = "GRP-etype-infstat"
_NO_STATUS = frozenset({"", "undefined"})
_NO_RELATION = frozenset({"same-unit", "ROOT"})


class _Found(NamedTuple):
    passage: Passage
    sentence: int
    mention: Mention

    @property
    def id(self) -> str:
        return f"{self.sentence}.{self.mention.first}-{self.mention.last}.{self.mention.entity}"

    @property
    def characters(self) -> tuple[int, int]:
        return self.passage.characters(self.sentence, self.mention.first, self.mention.last)

    @property
    def words(self) -> str:
        start, stop = self.characters
        return self.passage.text[start:stop].lower()

    @property
    def head(self) -> str:
        return head_of(self.passage.sentences[self.sentence], self.mention)


def gum_tasks(passages: Iterable[Passage], options: SourceOptions) -> list[Task]:
    """Return all tasks that *passages* give, whether or not there are examples enough.

    ======================  =====================  ================================================
    task                    input                  label
    ======================  =====================  ================================================
    ``entity_type``         mention                kind of thing (person, place, ...)
    ``information_status``  mention                new, given or accessible (without sub-kinds);
                                                   not of a passage's first sentence
    ``coreference``         two mentions           whether they are of the same entity
    ``discourse_relation``  unit, the unit that    class of the relation (causal, joint, ...), of
                            it bears on            units that are neighbours
    ======================  =====================  ================================================

    For coreference as many pairs are taken of the same entity as of two, at each distance in words
    and for each entity type. The mentions of a pair do not overlap and are not the same words, as
    these alone would tell.

    Args:
        passages: of one corpus.
        options: limit and seed of the choice of pairs.
    """
    kinds = Task("entity_type", "entity_type", "semantics")
    states = Task("information_status", "information_status", "discourse")
    pairs = Task("coreference", "coreference", "discourse")
    relations = Task("discourse_relation", "discourse_relation", "discourse")
    offered: list[tuple[int, str, Candidate]] = []
    for passage in passages:
        found, broken = _mentions(passage)
        for task in (kinds, states, pairs):
            task.excluded["mentions not read"] += broken
        for each in found:
            if each.mention.type:
                kinds.candidates.append(_candidate(each.mention.type, each))
            status = each.mention.status.partition(":")[0]
            if status not in _NO_STATUS and each.sentence:
                states.candidates.append(_candidate(status, each))
        offered += _pairs(found)
        relations.candidates += _relations(passage)
    couples = _couples(offered, options.seed)
    pairs.excluded["pairs without a match"] = len(offered) - 2 * len(couples)
    for role in {same.role for same, _ in couples}:
        # Cut here, for a draw that cut each label by itself would undo the match.
        of_role = [couple for couple in couples if couple[0].role == role]
        for couple in of_role[: size_of(role, options) // 2]:
            pairs.candidates += couple
    return [kinds, states, pairs, relations]


def _mentions(passage: Passage) -> tuple[list[_Found], int]:
    attributes = attributes_of(passage.header.get("global.Entity", _DEFAULT_ATTRIBUTES))
    found: dict[str, _Found] = {}
    broken = 0
    for number, sentence in enumerate(passage.sentences):
        mentions, unread = mentions_of(sentence, attributes)
        broken += unread
        for mention in mentions:
            each = _Found(passage, number, mention)
            found.setdefault(each.id, each)
    return list(found.values()), broken


def _candidate(label: str, *found: _Found) -> Candidate:
    passage = found[0].passage
    return Candidate(
        id="/".join([passage.id, *(each.id for each in found)]),
        text=passage.text,
        inputs=tuple(each.characters for each in found),
        label=label,
        group=passage.group,
        type=" ".join(each.head for each in found),
        role=passage.role,
    )


def _pairs(found: list[_Found]) -> Iterator[tuple[int, str, Candidate]]:
    """Yield distance in words, entity type and candidate of each pair."""
    if not found:
        return
    offsets = [0]
    for sentence in found[0].passage.sentences:
        offsets.append(offsets[-1] + len(sentence.words))
    words = {each.id: each.words for each in found}
    for one, other in combinations(found, 2):
        end = offsets[one.sentence] + one.mention.last
        distance = offsets[other.sentence] + other.mention.first - end
        if distance < 1 or one.mention.type != other.mention.type or one.mention.entity == "":
            continue
        if words[one.id] != words[other.id]:
            label = "same" if one.mention.entity == other.mention.entity else "different"
            yield distance, one.mention.type, _candidate(label, one, other)


def _couples(
    offered: list[tuple[int, str, Candidate]], seed: int
) -> list[tuple[Candidate, Candidate]]:
    """Return couples of same and different that agree in distance, entity type and role.

    No pair is in two couples; the couples come in the order of the seed.
    """
    grouped: defaultdict[tuple[int, str, str], dict[str, list[Candidate]]]
    grouped = defaultdict(lambda: {"same": [], "different": []})
    for distance, kind, candidate in offered:
        grouped[distance, kind, candidate.role][str(candidate.label)].append(candidate)
    couples: list[tuple[Candidate, Candidate]] = []
    for by_label in grouped.values():
        same, different = (
            sorted(candidates, key=lambda candidate: rank(seed, candidate.id))
            for candidates in by_label.values()
        )
        couples += zip(same, different, strict=False)
    return sorted(couples, key=lambda couple: rank(seed, couple[0].id))


def _relations(passage: Passage) -> Iterator[Candidate]:
    placed: dict[int, tuple[int, Unit]] = {}
    for number, sentence in enumerate(passage.sentences):
        for unit in units_of(sentence):
            placed.setdefault(unit.number, (number, unit))
    for number, (sentence_of_unit, unit) in placed.items():
        if unit.relation in _NO_RELATION or unit.target not in placed:
            continue
        sentence_of_target, target = placed[unit.target]
        if abs(unit.target - number) == 1:
            yield Candidate(
                id=f"{passage.id}/{number}",
                text=passage.text,
                inputs=(
                    passage.characters(sentence_of_unit, unit.first, unit.last),
                    passage.characters(sentence_of_target, target.first, target.last),
                ),
                label=unit.relation.partition("-")[0],
                group=passage.group,
                role=passage.role,
            )
