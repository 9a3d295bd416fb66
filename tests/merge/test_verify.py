"""Merges are computed again, and whatever was tampered with is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import miscible
from miscible.errors import MiscibleError
from miscible.merge.coefficients import CoefficientMap, write_coefficients
from miscible.merge.parents import Places, by_public_name
from miscible.merge.statistics.files import Statistics, write_statistics
from miscible.merge.verify import SAMPLED, Verification, verify
from tiny import tiny_tensors, write_adapter, write_model

UP = "model.layers.0.mlp.up_proj.weight"
METHODS: dict[str, dict[str, Any]] = {
    "linear": {},
    "slerp": {"t": 0.3},
    "ties": {"density": 0.5},
    "dare_ties": {"density": 0.5},
    "della": {"density": 0.5},
    "tsv": {},
    "sce": {"select_topk": 0.5},
}


def merged(
    folder: Path,
    method: str = "linear",
    children: tuple[str, str] = ("child1", "child2"),
    *,
    seed: int = 0,
    parameters: dict[str, Any] | None = None,
    **keys: Any,
) -> Path:
    """Write a merge of the models in *folder* beside them."""
    based = method not in ("linear", "passthrough", "regmean")
    recipe: dict[str, Any] = {
        "merge_method": method,
        "models": [{"model": str(folder / child)} for child in children],
        "parameters": (parameters or METHODS.get(method, {})),
        **keys,
    }
    if method == "slerp":
        recipe["base_model"] = str(folder / children[0])
    elif based:
        recipe["base_model"] = str(folder / "base")
    if method not in ("slerp", "sce"):
        recipe["parameters"] = {"weight": 0.5, **recipe["parameters"]}
    miscible.merge(recipe, out=folder / "merged", seed=seed)
    return folder / "merged"


@pytest.fixture
def models(tiny_base: Path, tiny_children: list[Path]) -> Path:
    """A folder with ``base``, ``child1`` and ``child2``."""
    return tiny_base.parent


def said(found: Verification) -> list[tuple[str, str]]:
    return [(difference.part, difference.name) for difference in found.differences]


@pytest.mark.parametrize("method", METHODS)
def test_every_kind_of_method_is_replayed_bit_for_bit(models: Path, method: str) -> None:
    found = verify(merged(models, method, seed=7))
    assert found.verified, found.differences
    assert (found.tensors, len(found.replayed), found.share, found.shards) == (20, 20, 1.0, 1)
    assert all(tensor.identical for tensor in found.replayed)
    assert found.within_rounding == 0


def test_dtypes_shards_and_whole_tensors(models: Path) -> None:
    from miscible.merge.export import write_merge
    from miscible.merge.virtual import VirtualCheckpoint

    recipe = miscible.merge(
        {
            "merge_method": "linear", "parameters": {"weight": [0.2, 0.9]}, "out_dtype": "bfloat16",
            "models": [{"model": str(models / f"child{n}")} for n in (1, 2)],
        }
    ).recipe  # fmt: skip
    write_merge(VirtualCheckpoint.open(recipe), models / "merged", shard_bytes=4000)
    found = verify(models / "merged", threads=3)
    assert found.verified, found.differences
    assert found.shards > 2


def test_slices_tokenizers_and_chat_templates(models: Path) -> None:
    write_model(models / "child2", _wider(), words=["the", "a", "new", "words", *"bcdefghijk"])
    found = verify(
        merged(
            models, tokenizer={"source": "union", "pad_to_multiple_of": 8}, chat_template="chatml"
        )
    )
    assert found.verified, found.differences
    shutil.rmtree(models / "merged")
    cut = {"model": str(models / "child1"), "parameters": {"scale": 0.5}}
    recipe = {
        "merge_method": "passthrough",
        "slices": [{"sources": [{**cut, "layer_range": r}]} for r in ([1, 2], [0, 2])],
    }
    miscible.merge(recipe, out=models / "merged")
    assert verify(models / "merged").verified


def _wider() -> dict[str, torch.Tensor]:
    tensors = tiny_tensors(8)
    tensors["model.embed_tokens.weight"] = torch.randn(17, 16) * 0.1
    return tensors


def test_where_a_tokenizer_was_read_from_does_not_matter(models: Path) -> None:
    path = models / "child1" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name_or_path": "/home/me/x"}))
    folder = merged(models)
    assert "name_or_path" not in json.loads((folder / "tokenizer_config.json").read_text())
    assert verify(folder).verified


def test_single_files_of_weights(models: Path) -> None:
    for child in ("child1", "child2"):
        (models / child / "model.safetensors").rename(models / f"{child}.safetensors")
        shutil.rmtree(models / child)
    folder = merged(models, "linear", ("child1.safetensors", "child2.safetensors"))
    assert verify(folder).verified


def test_adapters_are_found_by_their_halves(models: Path, tmp_path: Path) -> None:
    factors = {"model.layers.0.mlp.up_proj": (torch.ones(2, 16), torch.ones(24, 2))}
    write_adapter(models / "lora", factors)
    children = (f"base+{models / 'lora'}", "child1")
    folder = merged(models, "dare_linear", children, parameters={"density": 0.5})
    assert "base+lora" in json.loads((folder / "miscible.json").read_text())["models"]
    assert verify(folder).verified
    elsewhere = tmp_path / "zoo"
    (models / "lora").rename(elsewhere)
    with pytest.raises(MiscibleError, match=r"--model base\+lora=PATH"):
        verify(folder)
    assert verify(folder, models={"lora": str(elsewhere)}).verified
    whole = f"{models / 'base'}+{elsewhere}"
    assert verify(folder, models={"base+lora": whole}).verified


def test_statistics_and_coefficients_are_found_by_their_names(models: Path) -> None:
    grams = {UP: torch.eye(16) * 2.0}
    for child in ("child1", "child2"):
        (models / f"of-{child}").mkdir()
        held = Statistics("gram", grams, examples=1, tokens=1)
        write_statistics(models / f"of-{child}" / "gram.safetensors", held)
    recipe = {
        "merge_method": "regmean",
        "models": [
            {"model": str(models / c), "statistics": str(models / f"of-{c}/gram.safetensors")}
            for c in ("child1", "child2")
        ],
    }
    miscible.merge(recipe, out=models / "merged")
    with pytest.raises(MiscibleError, match="--file gram.safetensors=PATH"):
        verify(models / "merged")
    files = {c: models / f"of-{c}" / "gram.safetensors" for c in ("child1", "child2")}
    assert verify(models / "merged", files=files).verified
    shutil.copy(files["child1"], models / "gram.safetensors")
    assert verify(models / "merged").verified
    shutil.rmtree(models / "merged")
    factors = {
        str(models / "child1"): {"*": 0.25},
        str(models / "child2"): {"model.norm.weight": 2.0},
    }
    write_coefficients(models / "factors.json", CoefficientMap(models=factors))
    folder = merged(models, "task_arithmetic", coefficients=str(models / "factors.json"))
    assert verify(folder).verified
    factors[str(models / "child1")]["*"] = 0.5
    write_coefficients(models / "factors.json", CoefficientMap(models=factors))
    assert ("recipe", "mergekit_config.yml") in said(verify(folder))


def test_coefficients_of_which_model() -> None:
    held = CoefficientMap(models={"./one": {"*": 1.0}, "./b/base+./c/lora": {"*": 2.0}})
    found = by_public_name(held, ["one", "base+lora"], "factors.json")
    assert found.models == {"one": {"*": 1.0}, "base+lora": {"*": 2.0}}
    twice = CoefficientMap(models={"./a/one": {"*": 1.0}, "./b/one": {"*": 2.0}})
    with pytest.raises(MiscibleError, match="cannot be told which model"):
        by_public_name(twice, ["one", "one-2"], "factors.json")


def test_a_sample_of_the_tensors(models: Path) -> None:
    folder = merged(models)
    few = verify(folder, tensors=3, seed=1)
    names = [tensor.name for tensor in few.replayed]
    assert len(names) == 3
    largest = max(load_file(folder / "model.safetensors").items(), key=lambda item: item[1].numel())
    assert any(t.size == largest[1].numel() for t in few.replayed)
    assert [t.name for t in verify(folder, tensors=3, seed=1).replayed] == names
    others = {tuple(t.name for t in verify(folder, tensors=3, seed=s).replayed) for s in range(8)}
    assert len(others) > 4
    assert 0 < few.share < 1
    assert len(verify(folder, tensors=1).replayed) == 1


def test_large_merges_are_sampled(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miscible.merge.verify.WHOLE_BELOW", 10)
    tensors = {f"layers.{n}.w": torch.full((2, 2), float(n)) for n in range(SAMPLED + 8)}
    for child in ("child1", "child2"):
        save_file(tensors, models / child / "model.safetensors")
    found = verify(merged(models))
    assert (len(found.replayed), found.tensors) == (SAMPLED, SAMPLED + 8)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def tamper_byte(folder: Path) -> None:
    flip(folder / "model.safetensors", -5)  # within the last tensor


def tamper_recipe(folder: Path) -> None:
    path = folder / "mergekit_config.yml"
    path.write_text(path.read_text().replace("0.5", "0.75"))


def tamper_parent(folder: Path) -> None:
    flip(folder.parent / "child2" / "model.safetensors", -5)


def tamper_swap(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    one, two = (f"model.layers.0.self_attn.{n}_proj.weight" for n in "qk")
    tensors[one], tensors[two] = tensors[two], tensors[one]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def tamper_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def tamper_dropped(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[UP]
    tensors["extra"] = torch.ones(2)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].double()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def tamper_cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def tamper_config(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rope_theta": 7.0}))


def tamper_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("evil")


TAMPERS: list[tuple[Callable[[Path], None], set[tuple[str, str]]]] = [
    (tamper_byte, {("shard", "model.safetensors"), ("tensor", "model.norm.weight")}),
    (tamper_parent, {("model", "child2")}),
    (tamper_missing, {("shard", "model.safetensors")}),
    (tamper_cut, {("shard", "model.safetensors")}),
    (tamper_config, {("config", "config.json")}),
    (tamper_tokenizer, {("tokenizer", "tokenizer.json"), ("tokenizer", "chat_template.jinja")}),
    (
        tamper_swap,
        {("shard", "model.safetensors")}
        | {("tensor", f"model.layers.0.self_attn.{n}_proj.weight") for n in "qk"},
    ),
    (
        tamper_dropped,
        {("shard", "model.safetensors")}
        | {("tensor", name) for name in (UP, "extra", "model.norm.weight")},
    ),
]


@pytest.mark.parametrize(("tamper", "expected"), TAMPERS)
def test_tampering_is_found_and_named(
    models: Path, tamper: Callable[[Path], None], expected: set[tuple[str, str]]
) -> None:
    folder = merged(models, "task_arithmetic")
    tamper(folder)
    found = verify(folder)
    assert {(part, Path(name).name) for part, name in said(found)} == expected
    assert not found.verified


def test_a_changed_recipe_is_found_by_its_key_and_by_every_tensor(models: Path) -> None:
    folder = merged(models, "task_arithmetic")
    tamper_recipe(folder)
    found = verify(folder)
    parts = [part for part, _ in said(found)]
    assert parts == ["recipe", *["tensor"] * 20]
    assert "the merge's key is" in found.differences[0].what


def edit_lineage(folder: Path, **keys: Any) -> None:
    path = folder / "miscible.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_lineage_and_recipe_must_agree(models: Path) -> None:
    folder = merged(models, "dare_ties", seed=3)
    edit_lineage(folder, seed=4)
    found = verify(folder)
    assert ("recipe", "mergekit_config.yml") in said(found)
    assert ("tensor", UP) in said(found)
    edit_lineage(folder, seed=None)
    assert ("recipe", "miscible.json") in said(verify(folder))
    edit_lineage(folder, seed=3, method="ties")
    assert said(verify(folder)) == [("recipe", "mergekit_config.yml")]
    edit_lineage(folder, method="dare_ties")
    assert verify(folder).verified
    held = json.loads((folder / "miscible.json").read_text())["models"]
    edit_lineage(folder, models={**held, "other": held["base"]})
    assert said(verify(folder)) == [("recipe", "other")]


def test_a_forged_digest_is_still_found_by_computing(models: Path) -> None:
    folder = merged(models, "ties")
    tamper_byte(folder)
    held = json.loads((folder / "miscible.json").read_text())["shards"]
    assert said(verify(folder, quick=True)) == [("tensor", "model.norm.weight")]
    held["model.safetensors"]["xxh3_128"] = "0" * 32
    edit_lineage(folder, shards=held)
    assert ("shard", "model.safetensors") in said(verify(folder))


def test_differences_no_larger_than_rounding_are_told_apart(models: Path) -> None:
    folder = merged(models, "linear")
    tensors = load_file(folder / "model.safetensors")
    tensors[UP] = torch.nextafter(tensors[UP], torch.tensor(torch.inf))
    tensors["model.norm.weight"] *= 1.01
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    by_name = {d.name: d.what for d in verify(folder, quick=True).differences}
    assert by_name.keys() == {UP, "model.norm.weight"}
    assert "no larger than rounding" in by_name[UP]
    assert "rounding" not in by_name["model.norm.weight"]


def test_rounding_passes_where_another_device_computed(models: Path) -> None:
    folder = merged(models, "linear")
    tensors = load_file(folder / "model.safetensors")
    tensors[UP] = torch.nextafter(tensors[UP], torch.tensor(torch.inf))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    edit_lineage(folder, device="cuda:7")
    found = verify(folder, quick=True)
    assert found.verified
    assert (found.made_on, found.device, found.within_rounding) == ("cuda:7", "cpu", 1)
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert said(verify(folder, quick=True)) == [("tensor", "model.norm.weight")]


def test_the_model_with_the_right_content_is_taken(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = merged(models)
    away = tmp_path / "away"
    away.mkdir()
    (models / "child1").rename(away / "child1")
    write_model(models / "child1", tiny_tensors(9))  # another of the same name, beside the merge
    monkeypatch.chdir(away)
    assert verify(folder).verified
    monkeypatch.chdir(tmp_path)
    assert said(verify(folder)) == [("model", "child1")]
    assert verify(folder, models={"child1": str(away / "child1")}).verified


def test_models_in_memory_cannot_be_verified(models: Path) -> None:
    recipe = {
        "merge_method": "linear", "parameters": {"weight": 1},
        "models": [{"model": "here"}, {"model": str(models / "child1")}],
    }  # fmt: skip
    miscible.merge(recipe, models={"here": tiny_tensors(1)}, out=models / "merged")
    with pytest.raises(MiscibleError, match="only in memory"):
        verify(models / "merged")


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "Field required"),
        ("[]", "not a JSON object"),
        (DEEP, "not JSON"),
        ('{"engine": 1}', "version 1 of the engine"),
        ('{"engine": 99, "miscible": "9.9"}', "of miscible 9.9"),
        ('{"engine": "2"}', "engine"),
        ("not json", "not JSON"),
    ],
)
def test_hostile_lineages(models: Path, text: str, message: str) -> None:
    folder = merged(models)
    (folder / "miscible.json").write_text(text)
    with pytest.raises(MiscibleError, match=message):
        verify(folder)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("seed",), 2**70),
        (("seed",), "0"),
        (("device",), "cpu; rm -rf"),
        (("method",), "a\x1b[31m"),
        (("miscible",), "x" * 200),
        (("models",), {}),
        (("models", "child1", "key"), 3),
        (("models", "\x1b[2J"), {"key": "k", "files": {}}),
        (("models", "child1", "files"), {"../../etc/passwd": {"bytes": 1}}),
        (("shards",), {"../model.safetensors": {"xxh3_128": "0" * 32, "pieces": {}}}),
        (("shards", "model.safetensors", "pieces"), {UP: -1}),
        (("shards", "model.safetensors", "pieces"), {UP: 2**80}),
        (("shards", "model.safetensors", "xxh3_128"), "z" * 32),
        (("doses",), [{"parent": "a", "projection": float("nan"), "coefficient": 1.0}]),
        (("surprise",), 1),
    ],
)
def test_hostile_values(models: Path, path: tuple[str, ...], value: Any) -> None:
    folder = merged(models)
    held = json.loads((folder / "miscible.json").read_text())
    place = held
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (folder / "miscible.json").write_text(json.dumps(held))
    with pytest.raises(MiscibleError) as raised:
        verify(folder)
    assert "\x1b" not in str(raised.value)


def test_pieces_that_are_too_many_are_not_believed(models: Path) -> None:
    folder = merged(models)
    held = json.loads((folder / "miscible.json").read_text())["shards"]
    held["model.safetensors"]["pieces"][UP] = 1
    edit_lineage(folder, shards=held)
    assert said(verify(folder)) == [("shard", "model.safetensors")]


@pytest.mark.parametrize(
    "name", ["../child1", "/etc", "..", "~root", "a\0b", "+" * 900, "child1+child2+" * 50]
)
def test_names_of_strangers_lead_nowhere(models: Path, name: str) -> None:
    places = Places(models / "merged")
    (models / "merged").mkdir()
    with pytest.raises(MiscibleError):
        places.open(name, "key")
    with pytest.raises(MiscibleError):
        places.file(name)


def test_what_is_no_merge(tmp_path: Path, models: Path) -> None:
    with pytest.raises(MiscibleError, match="nothing to verify against"):
        verify(tmp_path / "nowhere")
    with pytest.raises(MiscibleError, match="nothing to verify against"):
        verify(models / "child1")
    folder = merged(models)
    (folder / "mergekit_config.yml").unlink()
    with pytest.raises(MiscibleError, match="cannot be read"):
        verify(folder)
