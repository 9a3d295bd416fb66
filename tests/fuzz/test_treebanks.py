"""Whatever stands in a treebank, it is data sets whose invariants hold, or one clear error."""

from __future__ import annotations

from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.examples import fuzz
from miscible.errors import DatasetError
from miscible.probe.contract import SourceOptions, open_datasets
from probe.datasets.test_gum import own_corpus
from probe.datasets.treebanks import ARABIC, ENGLISH, GERMAN, many

CONTENT = "\n".join([own_corpus(14), many(14), GERMAN, ARABIC, ENGLISH])
PIECES = [
    "", "\t", "\n", "\n\n", "_", "0", "1", "9", "-1", "1-2", "1.1", "#", "# text = ", "# newdoc",
    "# sent_id = s1\n", "|", "=", "Entity=", "(", ")", "(1-person-new)", "[1/2]", "-", "->", ":",
    "SpaceAfter=No", "\ufeff", "\r", " ", "\u00a0", "\x00", "\u2028", "\x85", "99999999999", "１",
]  # fmt: skip

outcomes: dict[str, int] = {}


def check(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for source in ("conllu", "gum"):
        try:
            datasets = open_datasets([f"{source}:{path}"], SourceOptions(limit=60))
        except DatasetError as error:
            assert str(path) in str(error)
            outcomes["refused"] = outcomes.get("refused", 0) + 1
            continue
        outcomes["read"] = outcomes.get("read", 0) + 1
        for dataset in datasets:
            assert len(dataset.examples) <= 60
            assert set(dataset.texts) and all(count > 0 for count in dataset.excluded.values())
            for each in dataset.examples:
                for span in (span for part in each.inputs for span in part):
                    text = dataset.texts[span.text]
                    assert isinstance(text, str)
                    assert text[span.start : span.stop].strip()


@fuzz
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, len(CONTENT)),
            st.integers(0, 12),
            st.one_of(st.sampled_from(PIECES), st.text(max_size=6)),
        ),
        max_size=4,
    )
)
@example(edits=[])
def test_texts_near_a_treebank(tmp_path: Path, edits: list[tuple[int, int, str]]) -> None:
    content = CONTENT
    for place, size, fresh in edits:
        content = content[:place] + fresh + content[place + size :]
    check(tmp_path / "own.conllu", content.encode("utf-8", "surrogatepass"))


def test_many_of_them_are_read() -> None:
    """The search is of use only if it gets behind the parser."""
    total = sum(outcomes.values())
    assert outcomes.get("read", 0) > total / 10, outcomes
    assert outcomes.get("refused", 0) > total / 10, outcomes


@fuzz
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    check(tmp_path / "own.conllu", content)
