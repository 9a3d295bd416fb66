"""Reading vocabularies, from whole files and from damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tokenizers import Tokenizer

from miscible.errors import CheckpointError, IncompatibleModelsError
from miscible.models import FolderCheckpoint
from miscible.models.vocab import (
    check_one_to_one,
    read_vocabulary,
    vocabulary_of,
    vocabulary_tensors,
)


def word_level(vocabulary: dict[str, int], added: list[tuple[str, int]]) -> dict[str, Any]:
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "pre_tokenizer": None, "post_processor": None, "decoder": None,
        "added_tokens": [
            {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for text, i in added
        ],
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 12), min_size=1, max_size=6, unique=True),
    added=st.lists(
        st.tuples(st.sampled_from(["X", "Y", "t1", "t2", "<unk>", ""]), st.integers(0, 14)),
        max_size=6,
    ),
)
def test_ids_are_those_that_the_library_gives(
    numbers: list[int], added: list[tuple[str, int]]
) -> None:
    names = ["<unk>", *(f"t{i}" for i in range(1, len(numbers)))]
    data = word_level(dict(zip(names, numbers, strict=True)), added)
    expected = Tokenizer.from_str(json.dumps(data)).get_vocab()
    assert vocabulary_of(data, Path("tokenizer.json")).ids == expected


def test_unigram_ids_are_places_in_the_list() -> None:
    data = {
        **word_level({}, [("<x>", 9)]),
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<u>", 0.0], ["a", -1], ["a", -2]]},
    }
    expected = Tokenizer.from_str(json.dumps(data)).get_vocab()
    found = vocabulary_of(data, Path("tokenizer.json"))
    assert found.ids["a"] == expected["a"]
    assert (found.ids["<u>"], found.added["<x>"]["special"]) == (0, True)


def test_older_files_are_read_where_there_is_no_tokenizer_json(tmp_path: Path) -> None:
    assert read_vocabulary(tmp_path) is None
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n\nword\n", encoding="utf-8")
    found = read_vocabulary(tmp_path)
    assert found is not None
    assert found.ids == {"[PAD]": 0, "[UNK]": 1, "": 2, "word": 3}
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1}))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<x>": 2}))
    found = read_vocabulary(tmp_path)
    assert found is not None
    assert (found.ids, list(found.added)) == ({"a": 0, "b": 1, "<x>": 2}, ["<x>"])


def test_a_tokenizer_in_another_format_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x05")
    with pytest.raises(CheckpointError, match=r"only as tokenizer\.model.*AutoTokenizer"):
        read_vocabulary(tmp_path)


@pytest.mark.parametrize(
    ("vocabulary", "rows", "message"),
    [
        ({"a": 0, "b": 0}, 4, "'a' and 'b' have the same id 0"),
        ({"a": 0, "b": 2_000_000_000}, 4, "has the id 2000000000, far beyond the model's 4 rows"),
        ({}, 4, "holds no tokens"),
    ],
)
def test_vocabularies_that_name_no_rows(
    vocabulary: dict[str, int], rows: int, message: str
) -> None:
    found = vocabulary_of(word_level(vocabulary, []), Path("model/tokenizer.json"))
    with pytest.raises(CheckpointError, match=message) as caught:
        check_one_to_one(found, rows)
    assert "model/tokenizer.json" in str(caught.value)


@pytest.mark.parametrize("number", [-1, 2**40, True, 1.0, "1", None])
def test_ids_that_are_none(number: object) -> None:
    data = word_level({}, [])
    data["model"]["vocab"] = {"a": number}
    with pytest.raises(CheckpointError, match="not a tokenizer"):
        vocabulary_of(data, Path("tokenizer.json"))


def checkpoint(folder: Path, **shapes: tuple[int, ...]) -> FolderCheckpoint:
    folder.mkdir()
    tensors = {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    return FolderCheckpoint(folder)


def test_tensors_with_a_row_for_each_token(tmp_path: Path) -> None:
    llama = checkpoint(
        tmp_path / "llama", model__embed_tokens__weight=(12, 4), lm_head__weight=(12, 4),
        model__layers__0__mlp__up_proj__weight=(12, 4), lm_head__bias=(12,),
    )  # fmt: skip
    found = vocabulary_tensors(llama)
    assert found.rows == 12
    assert found.names == {"model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"}
    gpt = vocabulary_tensors(
        checkpoint(
            tmp_path / "gpt", transformer__wte__weight=(8, 4), transformer__wpe__weight=(8, 4)
        )
    )
    assert (gpt.rows, gpt.names) == (8, {"transformer.wte.weight"})
    with pytest.raises(IncompatibleModelsError, match="no tensor bears the name"):
        vocabulary_tensors(checkpoint(tmp_path / "vision", stem__conv__weight=(4, 3)))
