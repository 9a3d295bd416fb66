"""What the documents show is run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from json_schema import errors
from miscible.merge.catalogue import markdown
from miscible.merge.contract import METHODS
from miscible.merge.recipe import Recipe, parse_recipe
from miscible.study.spec import StudySpec
from miscible.testing import check_method
from tiny import tiny_tensors, write_model

ROOT = Path(__file__).parent.parent


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


@pytest.fixture
def methods() -> Iterator[None]:
    METHODS.names()
    before = dict(METHODS._objects)
    yield
    METHODS._objects.clear()
    METHODS._objects.update(before)


def test_the_method_of_the_contributing_guide_obeys_the_laws(
    methods: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = (b for b in blocks("CONTRIBUTING.md", "python") if "@merge_method" in b)
    (tmp_path / "guide_method.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    __import__("guide_method")
    check_method("clipped_mean")


def test_the_study_of_the_readme_is_a_study() -> None:
    (text,) = (b for b in blocks("README.md", "yaml") if b.startswith("name:"))
    spec = StudySpec.model_validate(yaml.safe_load(text))
    assert [len(entry.dose) for entry in spec.merges] == [5, 1, 0]


def test_the_recipe_of_the_guide_is_a_recipe() -> None:
    (text,) = (b for b in blocks("docs/getting-started.md", "yaml") if "merge_method" in b)
    assert Recipe.model_validate(yaml.safe_load(text)).merge_method == "ties"


@pytest.mark.parametrize(
    "name", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_local_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name}: {target}"


def test_the_page_of_methods_is_that_of_the_registry() -> None:
    assert markdown() in (ROOT / "docs/methods.md").read_text(), (
        "put what 'python -m miscible.merge.catalogue' prints into docs/methods.md"
    )


PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", PAGES)
def test_recipes_of_the_documents_are_read_and_fit_the_schema(name: str) -> None:
    schema = json.loads((ROOT / "docs/recipe.schema.json").read_text())
    for text in blocks(name, "yaml"):
        recipe = yaml.safe_load(text)
        if isinstance(recipe, dict) and "merge_method" in recipe:
            assert list(errors(recipe, schema, schema)) == []
            parse_recipe(text)


def test_recipes_have_their_examples() -> None:
    assert sum("merge_method" in text for text in blocks("docs/recipes.md", "yaml")) >= 8


def test_the_examples_of_the_api_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "math", "code")):
        write_model(tmp_path / name, tiny_tensors(seed))
    examples = blocks("docs/api.md", "python")
    (recipe,) = re.findall(r'recipe = """\n(.*?)"""', examples[0], re.DOTALL)
    (tmp_path / "recipe.yml").write_text(recipe)
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, "docs/api.md", "exec"), names)
    tensors = names["tensors"]
    assert isinstance(tensors, dict)
    live = names["model"].state_dict()  # type: ignore[attr-defined]
    assert all(live[name].equal(tensor) for name, tensor in tensors.items())
    assert (tmp_path / "nested" / "model.safetensors").is_file()
