"""Live models refuse what would give wrong numbers, and configs that cannot be believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miscible.errors import CheckpointError, IncompatibleModelsError, MiscibleError
from miscible.merge.recipe import parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models import FolderCheckpoint, LiveModel
from miscible.models.memory import MemoryCheckpoint
from tiny import tiny_tensors, write_model

NORM, HEAD, EMBEDDING = "model.norm.weight", "lm_head.weight", "model.embed_tokens.weight"


@pytest.mark.parametrize(
    ("dtype", "value"), [("float32", float("nan")), ("float32", float("inf")), ("float16", 1e6)]
)
def test_a_tensor_that_is_not_finite_is_refused(
    tiny_base: Path, tmp_path: Path, dtype: str, value: float
) -> None:
    tensors = tiny_tensors(0)
    tensors[NORM][3] = value
    broken = FolderCheckpoint(write_model(tmp_path / "broken", tensors))
    live = LiveModel.load(FolderCheckpoint(tiny_base), dtype=dtype)
    with pytest.raises(MiscibleError, match=f"broken: tensor '{NORM}' is not finite in {dtype}"):
        live.swap(broken)
    assert live.fingerprint == "", "half-filled weights are of no model"


def test_two_tensors_for_one_place_must_be_equal(tiny_base: Path, tmp_path: Path) -> None:
    live = LiveModel.load(FolderCheckpoint(tiny_base))
    tensors = tiny_tensors(1)
    same = {**tensors, HEAD: tensors[EMBEDDING].clone()}
    live.swap(FolderCheckpoint(write_model(tmp_path / "same", same)))
    assert live.model.lm_head.weight.equal(tensors[EMBEDDING])
    head = {HEAD: tensors[EMBEDDING] + 1}
    for untied in ({**head, **tensors}, {**tensors, **head}):
        with pytest.raises(IncompatibleModelsError, match=r"differ.*ties them.*on its own"):
            live.swap(MemoryCheckpoint("untied", untied))


def test_a_merge_is_loaded_under_its_own_config(tiny_base: Path, tmp_path: Path) -> None:
    tensors = tiny_tensors(1)
    untied = write_model(tmp_path / "untied", {**tensors, HEAD: tensors[EMBEDDING] + 1})
    config = json.loads((untied / "config.json").read_text())
    (untied / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    recipe = parse_recipe(
        "merge_method: linear\nparameters: {weight: 1}\n"
        f"models: [{{model: {tiny_base}}}, {{model: {untied}}}]\n"
    )
    merge = VirtualCheckpoint.open(recipe)
    live = LiveModel.load(merge)
    assert live.model.lm_head.weight.equal(merge.read(HEAD))
    assert live.model.model.embed_tokens.weight.equal(merge.read(EMBEDDING))


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 0}, {"num_hidden_layers": -3}, {"hidden_size": "wide"},
        {"vocab_size": None}, {"hidden_act": []}, {"rope_parameters": 5}, {"model_type": 7},
        {"rms_norm_eps": {}}, {"intermediate_size": 10**15}, {"architectures": {"a": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_configs_from_strangers_give_one_clear_error_or_a_model(
    tiny_base: Path, change: dict[str, Any]
) -> None:
    config = json.loads((tiny_base / "config.json").read_text())
    (tiny_base / "config.json").write_text(json.dumps({**config, **change}))
    try:
        live = LiveModel.load(FolderCheckpoint(tiny_base))
    except MiscibleError as error:
        assert "\n" not in str(error)
    else:
        assert live.fingerprint


@pytest.mark.parametrize("text", ["[]", "5", "{", '{"tokenizer_class": 5}'])
def test_damaged_tokenizer_configs(tiny_base: Path, text: str) -> None:
    (tiny_base / "tokenizer_config.json").write_text(text)
    with pytest.raises(CheckpointError, match="transformers cannot load it"):
        LiveModel.load(FolderCheckpoint(tiny_base))
