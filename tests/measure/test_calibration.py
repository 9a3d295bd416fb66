"""Calibration sets are drawn once, named by content, and refuse text that is too short."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from miscible.errors import DatasetError, MiscibleError
from miscible.measure.calibration import CalibrationText, calibration_set, calibration_text
from tiny import WORDS, write_tokenizer


@pytest.fixture
def tokenizer(tmp_path: Path) -> PreTrainedTokenizerFast:
    write_tokenizer(tmp_path, WORDS)
    found: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(tmp_path)
    return found


def numbered(count: int) -> CalibrationText:
    return CalibrationText("words", tuple(WORDS[i % len(WORDS)] for i in range(count)))


def test_the_built_in_text_is_of_several_kinds_and_needs_no_network() -> None:
    text = calibration_text()
    size = sum(len(each.encode()) for each in text.texts)
    assert 20_000 < size < 40_000 and len(text.texts) > 60
    assert any("def " in each for each in text.texts)
    assert any("12 * 14 = 168" in each for each in text.texts)
    assert any("昨天" in each for each in text.texts)
    assert text.key == calibration_text().key


def test_the_sums_in_the_built_in_text_are_right() -> None:
    sums = next(each for each in calibration_text().texts if each.startswith("17 + 26"))
    checked = 0
    for sentence in sums.rstrip(".").split(". "):
        left, _, right = sentence.partition(" = ")
        if set(left) <= set("0123456789+-*/(). "):
            numbers = [eval(side, {}) for side in (left, right)]
            assert numbers[0] == pytest.approx(numbers[1]), sentence
            checked += 1
    assert checked >= 10


def test_sequences_have_one_length_and_no_token_is_lost(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    found = calibration_set(numbered(50), tokenizer, length=8)
    assert found.ids.shape == (12, 8)  # 50 words and 50 end tokens make 12 sequences
    assert found.tokens == 96 and found.predictions == 84
    ids = found.ids.reshape(-1)
    assert (ids[1::2] == tokenizer.eos_token_id).all()
    every = {tokenizer.convert_tokens_to_ids(word) for word in WORDS}
    assert set(ids[::2].tolist()) <= every


def test_the_first_token_of_a_tokenizer_starts_every_sequence(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, WORDS)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    }  # fmt: skip
    path.write_text(json.dumps(content))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    found = calibration_set(numbered(20), tokenizer, length=5)
    assert (found.ids[:, 0] == 0).all() and not (found.ids[:, 1:] == 0).any()


def test_the_same_draw_has_the_same_key_and_another_seed_another(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    keys = [calibration_set(numbered(50), tokenizer, length=8, seed=seed).key for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(("length", "sequences"), [(8, 13), (101, None), (1, None), (200, 1)])
def test_too_short_a_text_is_refused(
    tokenizer: PreTrainedTokenizerFast, length: int, sequences: int | None
) -> None:
    with pytest.raises(DatasetError) as caught:
        calibration_set(numbered(50), tokenizer, length=length, sequences=sequences)
    if length > 1:
        assert f"sequences of {length} tokens" in str(caught.value)
        assert "Give more text" in str(caught.value)


def test_parts_are_disjoint_and_make_the_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    whole = calibration_set(numbered(100), tokenizer, length=3)
    parts = whole.split(4, seed=3)
    assert [len(part) for part in parts] == [17, 17, 16, 16]
    joined = np.concatenate([part.ids for part in parts])
    assert sorted(map(tuple, joined.tolist())) == sorted(map(tuple, whole.ids.tolist()))
    assert len(whole.subset(0.5, seed=1)) == 33
    assert whole.subset(0.5, seed=1).key == whole.subset(0.5, seed=1).key
    assert whole.subset(0.5, seed=1).key != whole.subset(0.5, seed=2).key
    with pytest.raises(DatasetError, match="66 sequences cannot be split into 67"):
        whole.split(67)
    with pytest.raises(MiscibleError, match="fraction"):
        whole.subset(0.0)


def test_files_of_users(tmp_path: Path) -> None:
    plain = tmp_path / "mine.txt"
    plain.write_text("one\n\ntwo\n")
    assert calibration_text(plain).texts == ("one", "two")
    pairs = tmp_path / "mine.jsonl"
    pairs.write_text('{"prompt": "a", "completion": "b", "body": "c"}\n')
    assert calibration_text(pairs).texts == ("a b",)
    assert calibration_text(pairs, key="body").texts == ("c",)
    with pytest.raises(DatasetError, match=r"line 1: it has no text.*'other'.*body, completion"):
        calibration_text(pairs, key="other")
    with pytest.raises(DatasetError, match="no such file"):
        calibration_text(tmp_path / "none.txt")
    pairs.write_text("[1\n")
    with pytest.raises(DatasetError, match="not JSON"):
        calibration_text(pairs, key="body")


def test_a_data_set_of_the_library_datasets(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = [{"body": f"text {i}"} for i in range(5)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert calibration_text(f"hub:{folder}", key="body", limit=3).texts == (
        "text 0", "text 1", "text 2",
    )  # fmt: skip
    with pytest.raises(DatasetError, match=r"row 1: it has no text under the key 'text'"):
        calibration_text(f"hub:{folder}")
    with pytest.raises(DatasetError, match="cannot be read"):
        calibration_text(f"hub:{tmp_path / 'nowhere'}")
