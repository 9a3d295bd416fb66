"""What the documents show is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from miscible.merge.contract import METHODS
from miscible.merge.recipe import Recipe
from miscible.study.spec import StudySpec
from miscible.testing import check_method

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
