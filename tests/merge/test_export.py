"""What is published with a merge: a recipe, a lineage and a card, without local paths."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from miscible.merge.export import public_names, write_merge
from miscible.merge.publishing import published
from miscible.merge.recipe import parse_recipe, read_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.fingerprint import quick_key
from miscible.models.memory import MemoryCheckpoint
from tiny import WIDTH, tiny_tensors, write_adapter, write_model


def test_no_local_path_is_published(tiny_base: Path, tmp_path: Path) -> None:
    one = write_model(tmp_path / "here" / "child", tiny_tensors(1))
    two = write_model(tmp_path / "there" / "child", tiny_tensors(2))
    same = write_model(tmp_path / "copies" / "again", tiny_tensors(0))
    for folder in (tiny_base, two):  # as libraries leave them behind
        for name, key in (("config", "_name_or_path"), ("tokenizer_config", "name_or_path")):
            settings = json.loads((folder / f"{name}.json").read_text())
            (folder / f"{name}.json").write_text(json.dumps({**settings, key: str(folder)}))
    module = "model.layers.0.self_attn.q_proj"
    lora = write_adapter(
        tmp_path / "a+b" / "lora", {module: (torch.ones(2, WIDTH), torch.ones(WIDTH, 2))}
    )
    recipe = parse_recipe(
        f"merge_method: task_arithmetic\nbase_model: {tiny_base}\nparameters: {{weight: 0.5}}\n"
        f"models: [{{model: {one}}}, {{model: {two}}}, {{model: '{tiny_base}+{lora}'}}, "
        f"{{model: {same}}}]\n"
        f"tokenizer_source: {two}\n"
    )
    merge = VirtualCheckpoint.open(recipe)
    out = tmp_path / "out"
    write_merge(merge, out)
    prints = {"base": merge.models[str(tiny_base)], "child": merge.models[str(one)],
              "child-2": merge.models[str(two)],
              "base+lora": merge.models[f"{tiny_base}+{lora}"],
              "again": merge.models[str(same)]}  # fmt: skip
    for path in out.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
        assert str(tmp_path.name).encode() not in path.read_bytes(), path.name
    for name in ("mergekit_config.yml", "miscible.json", "README.md"):
        text = (out / name).read_text()
        assert all(public in text for public in prints), name
        assert all(quick_key(model) in text for model in prints.values()), name
    for name in ("miscible.json", "README.md"):
        text = (out / name).read_text()
        assert "again has the weights of the base base: its task vector is zero" in text, name
    written = read_recipe(out / "mergekit_config.yml")
    assert written.references() == list(prints)
    assert written.tokenizer_source == "child-2"
    again = VirtualCheckpoint(written, prints)
    assert again.fingerprint == merge.fingerprint
    lineage = json.loads((out / "miscible.json").read_text())
    keys = {name: entry["key"] for name, entry in lineage["models"].items()}
    assert keys == {name: quick_key(model) for name, model in prints.items()}
    assert [dose["parent"] for dose in lineage["doses"]] == list(prints)[1:]


def test_public_names_are_different_and_keep_what_is_public() -> None:
    model = MemoryCheckpoint("m", {"x": torch.ones(1)})
    references = ["acme/m@main", "demo:x", "/a/m", "/b/m", "/c/m", "/c/m-2", "/"]
    assert list(public_names(dict.fromkeys(references, model)).values()) == [
        "acme/m@main", "demo:x", "m", "m-2", "m-3", "m-2-2", "model",
    ]  # fmt: skip


def test_sentences_name_models_as_they_are_published() -> None:
    model = MemoryCheckpoint("/home/ann/m", {"x": torch.ones(1)})
    models = dict.fromkeys([".", "./m", "/home/ann/m", "/home/ann/m-2", "acme/m"], model)
    public = dict(zip(models, ["here", "m", "m-2", "m-2-2", "acme/m"], strict=True))
    for reference, name in public.items():
        for sentence in ("{} is equal.", "the base {}: it", "of {}, and {}", "like {}; or", "a {}"):
            given = sentence.replace("{}", reference)
            assert published(given, models, public) == sentence.replace("{}", name)
    assert published("a/home/ann/m/x stays.", models, public) == "a/home/ann/m/x stays."
