"""From model folders and text files to statistics files, through the verbs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
import yaml
from click.testing import Result
from typer.testing import CliRunner

from miscible.cli.statistics import adamerge, statistics
from miscible.errors import IncompatibleModelsError, MiscibleError, RecipeError
from miscible.merge.coefficients import read_coefficients
from miscible.merge.contract import METHODS, Context, Site
from miscible.merge.spaces import Weights
from miscible.merge.statistics import StatisticsFile
from miscible.merge.statistics.collect import collect_gram
from miscible.merge.statistics.models import collect_for_recipe
from miscible.merge.statistics.texts import read_texts, tokenise
from miscible.models import FolderCheckpoint, LiveModel
from tiny import WIDTH, tiny_tensors, write_model

app = typer.Typer()
app.command()(statistics)
app.command()(adamerge)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, MiscibleError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("the cat sees a dog .\ncats sleep .\nthe dogs see the cats\n")
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [{"question": "the cat", "answer": "sleeps ."}, {"question": "dogs", "answer": "see"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("kind", ["gram", "fisher"])
def test_statistics_of_a_model(kind: str, tiny_base: Path, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "statistics.safetensors"
    told = run("statistics", tiny_base, "--data", pairs, "--kind", kind, "--out", out,
               "--format", "json")  # fmt: skip
    (described,) = json.loads(told.output)
    file = StatisticsFile(out)
    checkpoint = FolderCheckpoint(tiny_base)
    assert file.kind == kind
    assert file.model == described["fingerprint"] == checkpoint.fingerprint
    assert (file.examples, file.tokens) == (2, 6)
    layer = file.read("model.layers.0.mlp.up_proj.weight")
    assert layer is not None
    shape = checkpoint.tensors["model.layers.0.mlp.up_proj.weight"].shape
    assert tuple(layer.shape) == ((WIDTH, WIDTH) if kind == "gram" else shape)
    assert set(file.names) <= checkpoint.tensors.keys()
    assert (file.read("model.norm.weight") is None) == (kind == "gram")


def recipe_of(models: list[Path], folder: Path, **keys: object) -> Path:
    recipe = {
        "merge_method": "regmean",
        "models": [
            {"model": str(model), "parameters": {"weight": weight}}
            for model, weight in zip(models, (1.0, 3.0), strict=False)
        ],
        "parameters": {"reduce_non_diagonal_ratio": 0.8},
        **keys,
    }
    path = folder / "recipe.yml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_layer_by_layer_statistics_make_regmean_plus_plus(
    tiny_children: list[Path], texts: Path, pairs: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(tiny_children, tmp_path)
    told = run("statistics", recipe, "--sequential", "--data", texts, "--data", pairs, "--out",
               tmp_path / "grams", "--format", "json")  # fmt: skip
    described = json.loads(told.output)
    assert [each["model"] for each in described] == list(map(str, tiny_children))
    files = [StatisticsFile(Path(each["file"])) for each in described]
    models = [FolderCheckpoint(folder) for folder in tiny_children]
    values = {"weight": (1.0, 3.0), "reduce_non_diagonal_ratio": 0.8, "eps": 1e-5}
    merged = {}
    for name in models[0].tensors:
        context = Context(Site(name), statistics=[file.read(name) for file in files])
        inputs = Weights([model.read(name) for model in models])
        merged[name] = METHODS.get("regmean")(inputs, values, context).tensor
    # The second layer of each model, on what the merged first layer makes of the model's own text.
    for model, file, data in zip(models, files, (texts, pairs), strict=True):
        assert file.model == model.fingerprint
        live = LiveModel.load(model)
        state = live.model.state_dict()
        for name, tensor in merged.items():
            if not name.startswith("model.layers.1."):
                state[name].copy_(tensor)
        batches = tokenise(read_texts(data), live.tokenizer, length=512)
        for name, gram in collect_gram(live.model, batches).tensors.items():
            if name.startswith("model.layers.1."):
                found = file.read(name)
                assert found is not None
                torch.testing.assert_close(found, gram, rtol=1e-3, atol=1e-4)


def test_recipes_that_cannot_be_walked_through_are_refused(
    tiny_base: Path, tiny_children: list[Path], texts: Path, tmp_path: Path
) -> None:
    linear = recipe_of(tiny_children, tmp_path, merge_method="linear", parameters={})
    with pytest.raises(RecipeError, match="a recipe of regmean"):
        collect_for_recipe(linear, [texts])
    with pytest.raises(RecipeError, match="2 models need as many --data"):
        collect_for_recipe(recipe_of(tiny_children, tmp_path), [texts] * 3)
    tensors = tiny_tensors(1)
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    other = write_model(tmp_path / "other", tensors)
    with pytest.raises(IncompatibleModelsError, match=r"'model.layers.1.mlp.up_proj.weight'"):
        collect_for_recipe(recipe_of([tiny_base, other], tmp_path), [texts])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "hessian"], "no kind of statistics"),
        (["--labels", "none"], "--labels must be"),
        (["--store", "bfloat16"], "gram statistics cannot be stored in bfloat16"),
        (["--sequential", "--kind", "fisher"], "--sequential collects Gram"),
        (["--data", "b.txt"], "take one --data"),
    ],
)
def test_bad_options_are_refused(options: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(MiscibleError, match=message):
        run("statistics", "nowhere", "--data", "a.txt", "--out", tmp_path / "x", *options)


def test_adamerge_writes_a_map_and_a_recipe(
    tiny_base: Path, tiny_children: list[Path], texts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "coefficients.json"
    told = run("adamerge", tiny_base, *tiny_children, "--data", texts, "--out", out, "--steps", 3)
    found = read_coefficients(out)
    assert list(found.models) == list(map(str, tiny_children))
    assert found.provenance["steps"] == 3
    recipe = yaml.safe_load(told.output[told.output.index("merge_method") :])
    assert recipe["coefficients"] == str(out)
    assert [each["model"] for each in recipe["models"]] == list(map(str, tiny_children))
    with pytest.raises(MiscibleError, match="--granularity must be"):
        run("adamerge", tiny_base, tiny_children[0], "--data", texts, "--out", out,
            "--granularity", "head")  # fmt: skip
