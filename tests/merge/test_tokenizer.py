"""The tokenizer and the chat template of a merge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from transformers import AutoTokenizer

from miscible.errors import IncompatibleModelsError, RecipeError
from miscible.merge.export import write_merge
from miscible.merge.recipe import parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from tiny import WORDS, tiny_tensors, write_model


def open_merge(base: Path, children: list[Path], **keys: object) -> VirtualCheckpoint:
    recipe = {
        "merge_method": "task_arithmetic", "base_model": str(base),
        "models": [{"model": str(child)} for child in children], "parameters": {"weight": 0.5},
        **keys,
    }  # fmt: skip
    return VirtualCheckpoint.open(parse_recipe(yaml.safe_dump(recipe)))


def set_template(folder: Path, template: str) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))


@pytest.mark.parametrize("key", ["tokenizer_source", "tokenizer"])
def test_the_tokenizer_is_that_of_the_source(
    tiny_base: Path, tiny_children: list[Path], tmp_path: Path, key: str
) -> None:
    for folder in (tiny_base, *tiny_children):
        set_template(folder, f"{{{{ '{folder.name}' }}}}")

    def written(source: str, out: str) -> dict[str, str]:
        value = source if key == "tokenizer_source" else {"source": source}
        merge = open_merge(tiny_base, tiny_children, **{key: value})
        write_merge(merge, tmp_path / out, [])
        assert (merge.folder / "tokenizer_config.json").read_bytes() == (
            tmp_path / out / "tokenizer_config.json"
        ).read_bytes()
        return json.loads((tmp_path / out / "tokenizer_config.json").read_text())

    assert "base" in written("base", "one")["chat_template"]
    assert "base" in written("union", "two")["chat_template"]
    assert "child2" in written(str(tiny_children[1]), "three")["chat_template"]
    with pytest.raises(RecipeError, match="none of the recipe's models"):
        written("acme/other", "four")


def test_a_union_of_different_vocabularies_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", tiny_tensors(1), words=WORDS[::-1])
    with pytest.raises(IncompatibleModelsError, match="tokenizers differ"):
        open_merge(tiny_base, [other], tokenizer_source="union")


def test_chat_templates(tiny_base: Path, tiny_children: list[Path], tmp_path: Path) -> None:
    def template(out: str, wanted: str) -> str | None:
        write_merge(open_merge(tiny_base, tiny_children, chat_template=wanted), tmp_path / out, [])
        return AutoTokenizer.from_pretrained(tmp_path / out).chat_template

    assert template("none", "auto") is None
    set_template(tiny_base, "{{ 'rare' }}")
    set_template(tiny_children[0], "{{ 'common' }}")
    (tiny_children[1] / "chat_template.jinja").write_text("{{ 'common' }}")
    assert template("auto", "auto") == "{{ 'common' }}"
    assert template("literal", "{% if true %}mine{% endif %}") == "{% if true %}mine{% endif %}"
    kept = json.loads((tmp_path / "literal" / "tokenizer_config.json").read_text())
    assert (kept["bos_token"], kept["chat_template"]) == ("<s>", "{% if true %}mine{% endif %}")
    with pytest.raises(RecipeError, match=r"no chat template 'chatml' here.*'auto'"):
        template("preset", "chatml")
