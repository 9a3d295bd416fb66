"""Vocabularies, matched rows and tokenizers of the published mergekit 0.1.5 cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from miscible.errors import IncompatibleModelsError
from miscible.merge.embeddings import align, aligned_rows
from miscible.merge.recipe import Recipe, read_recipe
from miscible.merge.tokenizer import (
    TEMPLATE_FILE,
    tokenizer_files,
    tokenizer_reference,
    vocabulary_config,
)
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.ref import open_checkpoint
from miscible.models.vocab import TOKENIZER_NAME, read_vocabulary

MATCHED = ["tok_base", "tok_model", "tok_pad", "tok_union"]
REFUSED = ["vocab_mismatch", "vocab_mismatch_gta", "vocab_padded"]


@pytest.fixture
def golden(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shared_data / "mergekit_golden"
    monkeypatch.chdir(folder)
    return folder


def opened(golden: Path, name: str) -> tuple[Recipe, dict[str, Checkpoint], str]:
    recipe = read_recipe(golden / "cases" / name / "config.yml")
    models = {reference: open_checkpoint(reference) for reference in recipe.references()}
    return recipe, models, recipe.references()[0]


@pytest.mark.parametrize("name", MATCHED)
@pytest.mark.parametrize("tensor", ["model.embed_tokens.weight", "lm_head.weight"])
def test_matched_rows(golden: Path, name: str, tensor: str) -> None:
    recipe, models, template = opened(golden, name)
    alignment = align(recipe, models, template)
    assert alignment is not None
    stored = {reference: model.read(tensor).numpy() for reference, model in models.items()}
    rows = {
        reference: aligned_rows(
            alignment, reference, lambda r, start, stop: stored[r][start:stop], 0, alignment.rows
        ).astype(np.float64)
        for reference in models
    }
    parents = [rows[source.model] for source in recipe.sources()]  # each weighs 0.5
    if recipe.merge_method == "linear":
        merged = sum(parents) / len(parents)
    else:
        merged = rows[template] + sum(0.5 * (parent - rows[template]) for parent in parents)
    expected = load_file(golden / "cases" / name / "model.safetensors")[tensor]
    np.testing.assert_allclose(merged, expected, rtol=2**-22, atol=2**-24)


@pytest.mark.parametrize("name", [*MATCHED, "chat_template_auto"])
def test_tokenizers_and_configs(golden: Path, name: str) -> None:
    recipe, models, template = opened(golden, name)
    case = json.loads((golden / "cases" / name / "case.json").read_text())
    reference = tokenizer_reference(recipe, models, template)
    alignment = align(recipe, models, template)
    files = tokenizer_files(recipe, models, reference, alignment)
    own = (models[reference].folder / TOKENIZER_NAME).read_text(encoding="utf-8")
    loaded = Tokenizer.from_str(files.texts.get(TOKENIZER_NAME, own))
    assert loaded.get_vocab_size() == case["vocab_size_tokenizer"]
    if alignment is not None:
        assert loaded.get_vocab() == alignment.vocabulary == case["vocab"]
        config = vocabulary_config(models[template].config, models, template, reference, alignment)
        assert config["vocab_size"] == case["config_out"]["vocab_size"]
        assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)
    assert (TEMPLATE_FILE in files.texts) == (TEMPLATE_FILE in case["files"])


def test_the_template_is_the_one_that_a_model_has(golden: Path) -> None:
    recipe, models, template = opened(golden, "chat_template_auto")
    files = tokenizer_files(recipe, models, template, None)
    held = golden / "models" / "chat_a" / TEMPLATE_FILE
    assert files.texts[TEMPLATE_FILE] == held.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", REFUSED)
def test_differing_sizes_without_a_tokenizer_are_refused(golden: Path, name: str) -> None:
    recipe, models, template = opened(golden, name)
    assert align(recipe, models, template) is None
    with pytest.raises(IncompatibleModelsError, match="differ"):
        VirtualCheckpoint(recipe, models)


def test_padded_and_unpadded_models_of_one_tokenizer_match(golden: Path) -> None:
    recipe, models, template = opened(golden, "vocab_padded")
    asked = Recipe.model_validate({**recipe.model_dump(), "tokenizer": {"source": "base"}})
    alignment = align(asked, models, template)
    assert alignment is not None
    held = read_vocabulary(models[template].folder)
    assert held is not None
    assert (alignment.rows, alignment.vocabulary) == (20, held.ids)
    assert all(rows.rows.tolist() == list(range(20)) for rows in alignment.maps.values())
