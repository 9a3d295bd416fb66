"""What is published with a merge: a recipe, a lineage and a card, without local paths."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from miscible.merge.export import public_names, write_merge
from miscible.merge.recipe import parse_recipe, read_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.memory import MemoryCheckpoint
from tiny import WIDTH, tiny_tensors, write_adapter, write_model


def test_no_local_path_is_published(tiny_base: Path, tmp_path: Path) -> None:
    one = write_model(tmp_path / "here" / "child", tiny_tensors(1))
    two = write_model(tmp_path / "there" / "child", tiny_tensors(2))
    module = "model.layers.0.self_attn.q_proj"
    lora = write_adapter(
        tmp_path / "a+b" / "lora", {module: (torch.ones(2, WIDTH), torch.ones(WIDTH, 2))}
    )
    recipe = parse_recipe(
        f"merge_method: task_arithmetic\nbase_model: {tiny_base}\nparameters: {{weight: 0.5}}\n"
        f"models: [{{model: {one}}}, {{model: {two}}}, {{model: '{tiny_base}+{lora}'}}]\n"
        f"tokenizer_source: {two}\n"
    )
    merge = VirtualCheckpoint.open(recipe)
    out = tmp_path / "out"
    write_merge(merge, out)
    prints = {"base": merge.models[str(tiny_base)], "child": merge.models[str(one)],
              "child-2": merge.models[str(two)],
              "base+lora": merge.models[f"{tiny_base}+{lora}"]}  # fmt: skip
    for name in ("mergekit_config.yml", "miscible.json", "README.md"):
        text = (out / name).read_text()
        assert str(tmp_path) not in text, name
        assert all(name in text and m.fingerprint in text for name, m in prints.items()), name
    written = read_recipe(out / "mergekit_config.yml")
    assert written.references() == list(prints)
    assert written.tokenizer_source == "child-2"
    again = VirtualCheckpoint(written, prints)
    assert again.fingerprint == merge.fingerprint
    lineage = json.loads((out / "miscible.json").read_text())
    assert lineage["models"] == {name: model.fingerprint for name, model in prints.items()}
    assert [dose["parent"] for dose in lineage["doses"]] == ["child", "child-2", "base+lora"]


def test_public_names_are_different_and_keep_what_is_public() -> None:
    model = MemoryCheckpoint("m", {"x": torch.ones(1)})
    references = ["acme/m@main", "demo:x", "/a/m", "/b/m", "/c/m", "/c/m-2", "/"]
    assert list(public_names(dict.fromkeys(references, model)).values()) == [
        "acme/m@main", "demo:x", "m", "m-2", "m-3", "m-2-2", "model",
    ]  # fmt: skip
