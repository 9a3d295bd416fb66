"""Entities, coreference and discourse: brackets, units, passages, matched pairs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from miscible.errors import DatasetError
from miscible.probe.contract import SourceOptions, open_datasets
from miscible.probe.dataset import Example, ProbeDataset
from miscible.probe.datasets.discourse_units import units_of
from miscible.probe.datasets.mentions import Mention, attributes_of, head_of, mentions_of
from miscible.probe.datasets.treebank import Sentence, Word
from probe.datasets.treebanks import covered, many, write

ATTRIBUTES = attributes_of("GRP-etype-infstat-salience")


def sentence(*miscs: str) -> Sentence:
    words = tuple(
        Word(f"w{i}", "X", "_", i, "dep", misc, 3 * i, 3 * i + 2, False)
        for i, misc in enumerate(miscs)
    )
    return Sentence("s", "file:1", "w0 w1 w2", "d", words, None, {})


def test_brackets_become_mentions() -> None:
    found, broken = mentions_of(
        sentence(
            "Entity=(1-person-new-x(2-place-giv:act-x)",
            "_",
            "Entity=(3-time-acc:inf-x",
            "Entity=(1-person-giv-x)3)1)",
        ),
        ATTRIBUTES,
    )
    assert broken == 0
    assert found == [
        Mention("1", "person", "new", 0, 3),
        Mention("2", "place", "giv:act", 0, 0),
        Mention("3", "time", "acc:inf", 2, 3),
        Mention("1", "person", "giv", 3, 3),
    ]


@pytest.mark.parametrize(
    ("miscs", "count"),
    [
        (("Entity=1)", "_"), 1),
        (("Entity=(1-a-b", "_"), 1),
        (("Entity=(1[1/2]-a-b)", "Entity=(1[2/2]-a-b)"), 2),
        (("Entity=()", "_"), 1),
        (("Entity=x", "_"), 1),
    ],
)
def test_broken_brackets_are_counted(miscs: tuple[str, ...], count: int) -> None:
    assert mentions_of(sentence(*miscs), ATTRIBUTES) == ([], count)


def test_the_head_is_governed_from_outside() -> None:
    words = [("the", 2), ("dog", 5), ("of", 4), ("Ann", 2), ("barks", 0)]
    made = tuple(Word(form, "X", "_", head, "dep", "_", 0, 1, False) for form, head in words)
    held = Sentence("s", "file:1", "t", "d", made, None, {})
    assert head_of(held, Mention("1", "", "", 0, 3)) == "dog"
    assert head_of(held, Mention("1", "", "", 2, 3)) == "ann"


def test_units_end_where_the_next_begins() -> None:
    found = units_of(
        sentence(
            "Discourse=joint-list_m:4->3:0:_;causal-result:4->2:1:_",
            "_",
            "Discourse=purpose-goal:5->4:1:syn",
            "_",
        )
    )
    assert [(u.number, u.relation, u.target, u.first, u.last) for u in found] == [
        (4, "joint-list", 3, 0, 1),
        (5, "purpose-goal", 4, 2, 3),
    ]
    (root,) = units_of(sentence("Discourse=ROOT:1:0", "_"))
    assert (root.relation, root.target) == ("ROOT", None)


def own_corpus(count: int) -> str:
    """Return documents of four sentences: Ann NUMBER sings, then she or he does."""
    blocks = []
    for index in range(count):
        lines = [f"# newdoc id = d{index}", "# global.Entity = eid-etype-infstat"]
        for place, form in enumerate([f"Ann{index}", "She", f"Bob{index}", "Ann's"]):
            entity = {0: 1, 1: 1, 2: 2, 3: 1}[place]
            status = "new" if place in (0, 2) else "giv:act"
            kind = ["person", "animal"][index % 2]
            relation = ["joint-list_m", "causal-cause"][index % 2]
            discourse = f"{relation}:{place + 1}->{place}:0:_" if place else "ROOT:1:0"
            lines += [
                f"# sent_id = d{index}-{place}",
                f"1\t{form}\t_\tX\t_\t_\t2\tnsubj\t_\t"
                f"Discourse={discourse}|Entity=({entity}-{kind}-{status})",
                "2\tsings\t_\tVERB\t_\t_\t0\troot\t_\t_",
                "",
            ]
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def read(argument: object, **options: int) -> dict[str, ProbeDataset]:
    found = open_datasets([f"gum:{argument}"], SourceOptions(**options))
    return {dataset.name.partition("/")[2]: dataset for dataset in found}


def parts(dataset: ProbeDataset, example: Example) -> list[str]:
    return [covered(dataset, spans[0]) for spans in example.inputs]


def test_tasks_of_an_own_corpus(tmp_path: Path) -> None:
    tasks = read(write(tmp_path, "own.conllu", own_corpus(40)))
    assert set(tasks) == {
        "entity_type", "information_status", "coreference", "discourse_relation",
    }  # fmt: skip
    kinds = tasks["entity_type"]
    assert len(kinds.examples) == 160 and kinds.competence == "semantics"
    assert kinds.texts[0] in {f"Ann{i} sings She sings Bob{i} sings Ann's sings" for i in range(40)}
    for example in kinds.examples:
        ((form,), group) = parts(kinds, example), example.group
        assert example.type == form.lower()
        assert example.label == ["person", "animal"][int(group[1:]) % 2]
    states = tasks["information_status"]
    assert {(parts(states, e)[0][:3], e.label) for e in states.examples} == {
        ("She", "giv"), ("Bob", "new"), ("Ann", "giv"),
    }  # fmt: skip
    relations = tasks["discourse_relation"]
    assert relations.classes == ("causal", "joint")
    units = {tuple(part[:3] for part in parts(relations, e)) for e in relations.examples}
    assert units == {("She", "Ann"), ("Bob", "She"), ("Ann", "Bob")}


def test_pairs_are_matched_by_distance(tmp_path: Path) -> None:
    pairs = read(write(tmp_path, "own.conllu", own_corpus(40)))["coreference"]
    by_distance: dict[object, Counter[object]] = {}
    for example in pairs.examples:
        first, second = (spans[0] for spans in example.inputs)
        text = str(pairs.texts[first.text])
        distance = text[first.start : second.start].count(" ")
        by_distance.setdefault(distance, Counter())[example.label] += 1
        same = not any(part.startswith("Bob") for part in parts(pairs, example))
        assert example.label == ("same" if same else "different")
    assert all(counts["same"] == counts["different"] > 0 for counts in by_distance.values())
    # Bob is one mention of four: of 2 and 4 words apart there are pairs of either kind, of 6 none.
    assert set(by_distance) == {2, 4}


def test_a_treebank_without_entities_gives_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "own.conllu", many(40))
    with pytest.raises(DatasetError, match="too few examples for any task"):
        read(path)
    with pytest.raises(DatasetError, match="no task 'entities'"):
        read(f"{path}#entities")


def test_the_real_corpus(shared_data: Path) -> None:
    path = shared_data / "probing/gum_open/gum-open-genres.conllu.gz"
    tasks = read(path, limit=400)
    assert set(tasks) == {
        "entity_type", "information_status", "coreference", "discourse_relation",
    }  # fmt: skip
    for dataset in tasks.values():
        assert dataset.language == "en" and 350 <= len(dataset.examples) <= 400
        assert "mentions not read" not in dataset.excluded
    pairs = tasks["coreference"]
    assert Counter(example.label for example in pairs.examples) == {"same": 200, "different": 200}
    for example in pairs.examples:
        one, other = parts(pairs, example)
        assert one.lower() != other.lower()
