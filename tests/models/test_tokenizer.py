"""Comparing vocabularies, and giving a tokenizer more tokens."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from miscible.errors import CheckpointError, IncompatibleModelsError, MiscibleError
from miscible.models import FolderCheckpoint
from miscible.models.tokenizer import check_same_vocabulary, extended_tokenizer
from miscible.models.vocab import read_vocabulary, vocabulary_of
from tiny import WORDS, tiny_tensors, write_model

TEXT = ["the things that nothing sings", "a thinking thing", "sing the song of spring"] * 4
OTHER = ["five quick zebras jump over maps", "boxes of quiet zebras"] * 4


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"vocab": [1, 2]}}, {"model": {"vocab": [{}, 2]}}, {"model": {"vocab": 7}},
        {"model": {"vocab": {"a": "one"}}}, {"added_tokens": 5}, {"added_tokens": [3]},
        {"added_tokens": [{"content": "a"}]}, {"added_tokens": [{"content": [], "id": 0}]},
    ],
    ids=str,
)  # fmt: skip
def test_damaged_tokenizers_are_named(tiny_base: Path, change: dict[str, Any]) -> None:
    path = tiny_base / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError, match="not a tokenizer") as caught:
        check_same_vocabulary([FolderCheckpoint(tiny_base)])
    assert str(path) in str(caught.value)


def test_other_ids_under_one_size_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", tiny_tensors(1), words=WORDS[::-1])
    with pytest.raises(IncompatibleModelsError, match=r"tokenizers differ.*source: union"):
        check_same_vocabulary([FolderCheckpoint(tiny_base), FolderCheckpoint(other)])


def control(text: str) -> dict[str, Any]:
    return {
        "content": text, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": False, "special": True,
    }  # fmt: skip


def trained(kind: str, size: int, text: list[str] = TEXT) -> Tokenizer:
    # As published models do: the BPE keeps its control tokens outside of its vocabulary.
    if kind == "BPE":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False)
    elif kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordPieceTrainer(
            vocab_size=size, special_tokens=["[UNK]"], show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=size, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer


def saved(tokenizer: Tokenizer, folder: Path, kind: str = "PreTrainedTokenizerFast") -> Path:
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": kind, "eos_token": "<end>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("kind", ["BPE", "WordPiece", "Unigram"])
def test_the_library_reads_the_tokens_at_their_ids(tmp_path: Path, kind: str) -> None:
    folder = saved(trained(kind, 30), tmp_path / "small")
    donor = saved(trained(kind, 60, [*TEXT, *OTHER]), tmp_path / "large")
    held, others = read_vocabulary(folder), read_vocabulary(donor)
    assert held is not None
    assert others is not None
    ids = dict(held.ids)
    for token in [*sorted(others.ids.keys() - ids.keys()), "<|im_start|>"]:
        ids[token] = len(ids)
    assert len(ids) > len(held.ids) + 3
    controls = {"<|im_start|>": control("<|im_start|>")}
    extended = extended_tokenizer(folder, ids, controls, [donor])
    (folder / "tokenizer.json").write_text(json.dumps(extended))
    loaded = AutoTokenizer.from_pretrained(folder)
    assert loaded.get_vocab() == ids
    found = loaded("<|im_start|>the thing<end>")["input_ids"]
    assert (found[0], found[-1]) == (ids["<|im_start|>"], ids["<end>"])
    assert loaded.convert_ids_to_tokens(list(range(len(ids)))) == sorted(ids, key=ids.__getitem__)


def test_control_tokens_alone_leave_the_vocabulary_as_it_is(tmp_path: Path) -> None:
    folder = saved(trained("BPE", 40), tmp_path / "model")
    before = json.loads((folder / "tokenizer.json").read_text())
    held = read_vocabulary(folder)
    assert held is not None
    ids = {**held.ids, "<x>": len(held.ids)}
    extended = extended_tokenizer(folder, ids, {"<x>": control("<x>")})
    assert {**extended, "added_tokens": before["added_tokens"]} == before
    assert extended["added_tokens"][-1] == {"id": ids["<x>"], **control("<x>")}


@pytest.mark.parametrize("as_text", [True, False])
def test_a_bpe_and_its_extension_unite_to_the_extension(tmp_path: Path, as_text: bool) -> None:
    large = trained("BPE", 60)
    data = json.loads(large.to_str())
    size, merges = 30, data["model"]["merges"]
    vocabulary = {t: i for t, i in data["model"]["vocab"].items() if i < size}
    shorter = [m for m in merges if "".join(m) in vocabulary]
    assert 0 < len(shorter) < len(merges)
    if as_text:
        shorter = [" ".join(merge) for merge in shorter]
    small = {**data, "model": {**data["model"], "vocab": vocabulary, "merges": shorter}}
    small["added_tokens"] = []
    data["added_tokens"] = []
    folder = saved(Tokenizer.from_str(json.dumps(small)), tmp_path / "small")
    donor = saved(Tokenizer.from_str(json.dumps(data)), tmp_path / "large")
    if as_text:  # the library itself writes pairs
        (folder / "tokenizer.json").write_text(json.dumps(small))
    united = extended_tokenizer(folder, data["model"]["vocab"], {}, [donor])
    assert isinstance(united["model"]["merges"][0], str) == as_text
    found = Tokenizer.from_str(json.dumps(united))
    for text in TEXT:
        assert found.encode(text).ids == Tokenizer.from_str(json.dumps(data)).encode(text).ids
        assert found.encode(text).ids != Tokenizer.from_str(json.dumps(small)).encode(text).ids


def test_parts_of_words_do_not_tear_other_words_apart(tmp_path: Path) -> None:
    folder = saved(trained("BPE", 60), tmp_path / "model")
    before = Tokenizer.from_file(str(folder / "tokenizer.json"))
    held = read_vocabulary(folder)
    assert held is not None
    extended = extended_tokenizer(folder, {**held.ids, "hin": len(held.ids)}, {})
    after = Tokenizer.from_str(json.dumps(extended))
    assert after.token_to_id("hin") == len(held.ids)
    assert [after.encode(t).ids for t in TEXT] == [before.encode(t).ids for t in TEXT]


def test_tokenizers_that_cannot_be_extended(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no tokenizer\.json"):
        extended_tokenizer(tmp_path, {"a": 0}, {})
    folder = saved(trained("Unigram", 40), tmp_path / "model")
    held = read_vocabulary(folder)
    assert held is not None
    with pytest.raises(CheckpointError, match="cannot hold the merge's tokens"):
        extended_tokenizer(folder, {**held.ids, "far": 100}, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 50) | st.floats() | st.sampled_from("ab"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries({"content": JSON, "id": JSON}) | JSON


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    vocab=JSON | st.lists(st.tuples(st.sampled_from("abc"), JSON), max_size=4)
    | st.dictionaries(st.sampled_from("abc"), st.integers(-1, 5)),
    merges=JSON | st.lists(st.lists(st.sampled_from("abc"), max_size=3), max_size=3),
    added=st.lists(ENTRIES, max_size=3) | JSON,
    with_model=st.booleans(),
)  # fmt: skip
def test_damaged_tokenizers_are_extended_or_refused(
    tmp_path: Path, vocab: Any, merges: Any, added: Any, with_model: bool
) -> None:
    model = {"vocab": vocab, "merges": merges} if with_model else vocab
    folder, donor = (Path(mkdtemp(dir=tmp_path)) for _ in range(2))
    text = json.dumps({"model": model, "added_tokens": added})
    (folder / "tokenizer.json").write_text(text)
    (donor / "tokenizer.json").write_text(text)
    ids = {"a": 0, "b": 1, "ab": 2}
    try:
        held = read_vocabulary(folder)
        assert held is not None
        for token in ("a", "b", "ab", "<x>"):
            ids = {**held.ids, **ids, token: max(held.ids.values(), default=-1) + 1}
        extended = extended_tokenizer(folder, ids, {"<x>": control("<x>")}, [donor])
    except MiscibleError:
        return
    assert vocabulary_of(json.loads(json.dumps(extended)), folder).ids == ids
