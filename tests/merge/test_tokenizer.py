"""The tokenizer and the chat template of a merge."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from miscible.errors import IncompatibleModelsError, RecipeError
from miscible.merge.chat_templates import PRESETS
from miscible.merge.embeddings import align
from miscible.merge.recipe import Recipe, parse_recipe
from miscible.merge.token_rules import asked_tokenizer
from miscible.merge.tokenizer import (
    chat_template,
    check_chat_template,
    template_files,
    tokenizer_files,
    tokenizer_reference,
    vocabulary_config,
)
from miscible.models import FolderCheckpoint
from miscible.models.tokenizer import TOKENIZER_FILES
from tiny import WORDS, tiny_tensors, write_model

MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]
PREAMBLE = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n"
)


def opened(*folders: Path) -> dict[str, FolderCheckpoint]:
    return {folder.name: FolderCheckpoint(folder) for folder in folders}


def recipe_of(models: dict[str, FolderCheckpoint], **keys: Any) -> Recipe:
    first, *others = models
    return Recipe.model_validate(
        {
            "merge_method": "task_arithmetic", "base_model": first,
            "models": [{"model": name} for name in others or [first]], **keys,
        }
    )  # fmt: skip


def set_template(folder: Path, template: object) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))


def add_control(folder: Path, token: str) -> None:
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    entry = {**data["added_tokens"][0], "content": token, "id": len(data["model"]["vocab"])}
    data["added_tokens"].append(entry)
    path.write_text(json.dumps(data))


def written(models: dict[str, FolderCheckpoint], out: Path, **keys: Any) -> Path:
    """Write the tokenizer files of a merge as the writer of checkpoints does."""
    recipe = recipe_of(models, **keys)
    template = next(iter(models))
    reference = tokenizer_reference(recipe, models, template)
    alignment = align(recipe, models, template)
    files = tokenizer_files(recipe, models, reference, alignment)
    out.mkdir()
    for name in TOKENIZER_FILES:
        source = models[reference].folder / name
        if source.is_file() and name not in files.omitted:
            (out / name).write_bytes(source.read_bytes())
    for name, text in files.texts.items():
        (out / name).write_text(text, encoding="utf-8")
    return out


def test_the_tokenizer_is_that_of_the_source(tiny_base: Path, tiny_children: list[Path]) -> None:
    models = opened(tiny_base, *tiny_children)

    def source(**keys: Any) -> str:
        return tokenizer_reference(recipe_of(models, **keys), models, "base")

    assert source() == "base"
    for name, expected in (("base", "base"), ("union", "base"), ("child2", "child2")):
        assert source(tokenizer_source=name) == expected
        assert source(tokenizer={"source": name}) == expected
    assert source(tokenizer={}) == "base"
    (tiny_base / "tokenizer.json").unlink()
    assert source(tokenizer_source="union") == "child1"
    with pytest.raises(RecipeError, match="none of the recipe's models"):
        source(tokenizer_source="acme/other")


def test_vocabularies_may_differ_only_where_the_recipe_speaks_of_it(
    tiny_base: Path, tmp_path: Path
) -> None:
    models = opened(tiny_base, write_model(tmp_path / "other", tiny_tensors(1), words=WORDS[::-1]))
    with pytest.raises(IncompatibleModelsError, match=r"tokenizers differ.*source: union"):
        tokenizer_reference(recipe_of(models), models, "base")
    recipe = recipe_of(models, tokenizer_source="union")
    assert tokenizer_reference(recipe, models, "base") == "base"


def test_files_are_taken_over_where_the_vocabulary_is_the_sources(
    tiny_base: Path, tiny_children: list[Path]
) -> None:
    models = opened(tiny_base, *tiny_children)
    for keys in ({}, {"tokenizer_source": "union"}, {"tokenizer": {"pad_to_multiple_of": 32}}):
        recipe = recipe_of(models, **keys)
        files = tokenizer_files(recipe, models, "base", align(recipe, models, "base"))
        assert (files.texts, files.omitted) == ({}, frozenset())


@pytest.mark.parametrize("decoder", [False, True])
def test_a_united_tokenizer_has_the_ids_of_the_union(
    tiny_base: Path, tmp_path: Path, decoder: bool
) -> None:
    other = write_model(tmp_path / "other", tiny_tensors(1), words=[*WORDS[:-1], "birds"])
    add_control(other, "<|im_start|>")
    (tiny_base / "vocab.json").write_text("{}")  # would say the old vocabulary again
    if decoder:
        path = tiny_base / "tokenizer_config.json"
        added = json.loads((tiny_base / "tokenizer.json").read_text())["added_tokens"]
        entries = {str(e["id"]): {k: v for k, v in e.items() if k != "id"} for e in added}
        config = {**json.loads(path.read_text()), "added_tokens_decoder": entries}
        path.write_text(json.dumps(config))
    models = opened(tiny_base, other)
    # Neither model has a row for the control token: it counts only as the recipe names it.
    tokenizer = {"tokens": {"<|im_start|>": {}, "<mine>": {}}}
    out = written(models, tmp_path / "out", tokenizer=tokenizer)
    before = AutoTokenizer.from_pretrained(tiny_base)
    loaded = AutoTokenizer.from_pretrained(out)
    alignment = align(recipe_of(models, tokenizer=tokenizer), models, "base")
    assert alignment is not None
    assert loaded.get_vocab() == alignment.vocabulary
    count = len(before.get_vocab())
    assert [alignment.vocabulary[t] for t in ("birds", "<|im_start|>", "<mine>")] == [
        count, count + 1, count + 2,
    ]  # fmt: skip
    text = "the cat sees birds"
    assert loaded("<|im_start|>" + text)["input_ids"] == [
        count + 1, *before("the cat sees")["input_ids"], count,
    ]  # fmt: skip
    assert loaded.added_tokens_decoder[count + 1].special
    assert not loaded.added_tokens_decoder[count + 2].special
    assert (loaded.bos_token, loaded.eos_token) == (before.bos_token, before.eos_token)
    assert not (out / "vocab.json").exists()
    if decoder:
        config = json.loads((out / "tokenizer_config.json").read_text())
        assert config["added_tokens_decoder"][str(count + 1)]["content"] == "<|im_start|>"


def test_the_config_follows_the_vocabulary(tiny_base: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", tiny_tensors(1))
    data = json.loads((other / "tokenizer.json").read_text())
    order = ["<unk>", "</s>", *WORDS, "<end>"]  # no <s>
    data["model"]["vocab"] = {token: i for i, token in enumerate(order)}
    data["added_tokens"] = []
    (other / "tokenizer.json").write_text(json.dumps(data))
    for folder, ids in ((tiny_base, (0, [1, 2])), (other, (13, 1))):
        path = folder / "config.json"
        changed = {"bos_token_id": ids[0], "eos_token_id": ids[1], "pad_token_id": None}
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    models = opened(tiny_base, other)
    recipe = recipe_of(models, tokenizer={"source": "other", "pad_to_multiple_of": 8})
    alignment = align(recipe, models, "base")
    assert alignment is not None
    nested = {**models["base"].config, "text_config": {"vocab_size": 14, "eos_token_id": 2}}
    found = vocabulary_config(nested, models, "base", "other", alignment)
    assert found["vocab_size"] == 16
    assert found["eos_token_id"] == [1, 0]  # </s> and <unk>, where they are now
    assert found["bos_token_id"] == 13  # <s> is gone: the other's own
    assert found["pad_token_id"] is None
    assert found["text_config"] == {"vocab_size": 16, "eos_token_id": 0}
    assert found["hidden_size"] == models["base"].config["hidden_size"]


def test_files_with_halves_of_characters_can_be_written(tiny_base: Path, tmp_path: Path) -> None:
    path = tiny_base / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "name": "\ud800", "chat_template": "\udfff"}))
    models = opened(tiny_base)
    assert chat_template(recipe_of(models, chat_template="auto"), models) is None
    out = written(models, tmp_path / "out", chat_template="chatml")
    assert json.loads((out / "tokenizer_config.json").read_text())["name"] == "\ud800"


def test_the_most_common_template(tiny_base: Path, tiny_children: list[Path]) -> None:
    models = opened(tiny_base, *tiny_children)
    recipe = recipe_of(models, chat_template="auto")
    assert chat_template(recipe, models) is None
    set_template(tiny_children[1], [{"name": "default", "template": "{{ 'named' }}"}, {"name": 1}])
    assert chat_template(recipe, models) == "{{ 'named' }}"
    set_template(tiny_base, "{{ 'rare' }}")
    assert chat_template(recipe, models) == "{{ 'rare' }}"  # as common, but listed first
    set_template(tiny_children[0], "{{ 'common' }}")
    (tiny_children[1] / "chat_template.jinja").write_text("{{ 'common' }}")
    assert chat_template(recipe, models) == "{{ 'common' }}"
    assert chat_template(recipe_of(models), models) is None


def test_a_literal_template_is_written(tiny_base: Path, tmp_path: Path) -> None:
    text = "{% if true %}mine{% endif %}"
    out = written(opened(tiny_base), tmp_path / "out", chat_template=text)
    assert AutoTokenizer.from_pretrained(out).chat_template == text
    kept = json.loads((out / "tokenizer_config.json").read_text())
    assert (kept["bos_token"], kept["chat_template"]) == ("<s>", text)
    assert template_files(text, tiny_base)["chat_template.jinja"] == text


def test_a_template_and_more_tokens_share_a_config(tiny_base: Path, tmp_path: Path) -> None:
    path = tiny_base / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "added_tokens_decoder": {}}))
    keys = {"chat_template": "chatml", "tokenizer": {"tokens": {"<|im_start|>": {}}}}
    out = written(opened(tiny_base), tmp_path / "out", **keys)
    config = json.loads((out / "tokenizer_config.json").read_text())
    assert "im_start" in config["chat_template"]
    assert [e["content"] for e in config["added_tokens_decoder"].values()] == ["<|im_start|>"]


@pytest.mark.parametrize(
    ("name", "expected", "prompt"),
    [
        (
            "alpaca",
            "Be kind.\n\n### Instruction:\nHi\n\n### Response:\nHello</s>\n\n"
            "### Instruction:\nBye\n\n",
            "### Response:\n",
        ),
        (
            "chatml",
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n",
            "<|im_start|>assistant\n",
        ),
        (
            "exaone",
            "[|system|]Be kind.[|endofturn|]\n[|user|]Hi\n[|assistant|]Hello[|endofturn|]\n"
            "[|user|]Bye\n",
            "[|assistant|]",
        ),
        (
            "llama3",
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "mistral",
            "<s>[INST] Be kind.\n\nHi [/INST] Hello</s>[INST] Bye [/INST]",
            "",
        ),
    ],
)
def test_named_templates_render_the_published_formats(
    tiny_base: Path, tmp_path: Path, name: str, expected: str, prompt: str
) -> None:
    out = written(opened(tiny_base), tmp_path / "out", chat_template=name)
    tokenizer = AutoTokenizer.from_pretrained(out)

    def rendered(messages: list[dict[str, str]], **options: bool) -> str:
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)

    assert rendered(MESSAGES) == expected
    assert rendered(MESSAGES, add_generation_prompt=True) == expected + prompt
    without = rendered(MESSAGES[1:3])
    if name == "alpaca":
        assert without.startswith(PREAMBLE + "### Instruction:\nHi")
    if name == "exaone":
        assert without.startswith("[|system|][|endofturn|]\n[|user|]Hi\n")
    if name == "mistral":
        assert without == "<s>[INST] Hi [/INST] Hello</s>"
        with pytest.raises(Exception, match="in turn"):
            rendered([MESSAGES[1], MESSAGES[1]])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("chatlm", "no chat template 'chatlm'.*Did you mean 'chatml'"),
        ("{% for m in messages %}{{ m }}", "chat_template, line 1: not a Jinja template"),
        ("a\n{{ m | nosuchfilter }}", "chat_template, line 2: .*nosuchfilter"),
        ("{{ '\ud800' }}", "halves of characters"),
        ("{{ " + "(" * 5000 + " }}", "nested too deeply|not a Jinja template"),
    ],
)  # fmt: skip
def test_what_is_no_template_is_refused(template: str, message: str) -> None:
    recipe = Recipe.model_validate(
        {"merge_method": "linear", "models": [{"model": "a"}], "chat_template": template}
    )
    with pytest.raises(RecipeError, match=message):
        check_chat_template(recipe)


def test_the_recipe_of_the_guide_is_understood(tiny_base: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "tokenizers.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    recipe = parse_recipe(block)
    models = {reference: FolderCheckpoint(tiny_base) for reference in recipe.references()}
    asked = asked_tokenizer(recipe, models)
    assert asked is not None
    assert asked.union
    assert [rule.kind for rule in asked.tokens.values()] == ["row", "row", "zero"]
    check_chat_template(recipe)
    assert all(f"| `{name}` |" in text for name in PRESETS)


@pytest.mark.parametrize(
    "template",
    [
        "auto", "{# nothing #}", "{% generation %}{{ x }}{% endgeneration %}",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{% endfor %}",
        "{{ messages | tojson }}", "{{ strftime_now('%Y') }}",
    ],
)  # fmt: skip
def test_what_transformers_reads_is_a_template(template: str) -> None:
    check_chat_template(
        Recipe.model_validate(
            {"merge_method": "linear", "models": [{"model": "a"}], "chat_template": template}
        )
    )
