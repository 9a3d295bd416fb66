from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from miscible.analyse import Resampling, StudyTables, analyse
from miscible.errors import StoreError
from miscible.report import write_report
from miscible.report.page import render
from report.synthetic import small_analysis, small_study, synthetic_tables

EVIL = "</script><img src=x onerror=alert(1)>\"'&{{7*7}}"
QUICK = Resampling(resamples=100, flips=199)


class Outline(HTMLParser):
    """Collects what the tests ask about: tags, ids, headings, links, and text outside scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def html() -> str:
    return render(small_study(), small_analysis())


@pytest.fixture(scope="module")
def page(html: str) -> Outline:
    return Outline(html)


def figures(html: str) -> dict[str, dict[str, Any]]:
    block = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.S)
    assert block
    held: dict[str, dict[str, Any]] = json.loads(block[1])
    return held


ALWAYS = {"verdicts", "scores", "dose", "layers", "pairs", "ranks", "weights", "provenance"}
"""Sections of every report; those about internals are there if there is something to show."""


def sections(page: Outline) -> set[str]:
    return {str(attrs["id"]) for attrs in page.all("section")}


def drawn(figure: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what Plotly gets: the figure, or all its views."""
    views = figure.get("views")
    if not views:
        return [figure]
    return [
        {"data": view["data"], "layout": figure["layout"] | view["layout"]}
        for view in views.values()
    ]


def test_the_verdicts_come_first_and_all_sections_are_there(page: Outline) -> None:
    found = [attrs["id"] for attrs in page.all("section")]
    assert found == [
        "verdicts", "scores", "dose", "competences", "layers", "differences", "similarity",
        "pairs", "ranks", "weights", "provenance",
    ]  # fmt: skip
    linked = {attrs["href"] for attrs in page.all("a")}
    assert linked == {f"#{section}" for section in found}


def test_the_page_is_one_small_file_with_plotly_once(html: str) -> None:
    assert len(html.encode()) < 6_000_000
    assert html.count("plotly.js v") == 1


def test_nothing_points_outside_the_file(page: Outline) -> None:
    for tag, attrs in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    policy = next(attrs for attrs in page.all("meta") if attrs.get("http-equiv"))
    assert "default-src 'none'" in str(policy["content"])


def test_headings_have_no_gaps_and_ids_are_unique(page: Outline) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert page.all("html")[0]["lang"] == "en"


def test_every_chart_has_a_caption_a_label_and_a_table(page: Outline, html: str) -> None:
    charts = [d for d in page.all("div") if "plotly-graph-div" in str(d.get("class"))]
    assert {chart["id"] for chart in charts} == set(figures(html))
    assert all(len(str(chart["aria-label"])) > 20 for chart in charts)
    count = len(page.all("figure"))
    assert count == len(charts) == len(page.all("figcaption"))
    assert len([d for d in page.all("details") if d.get("class") == "numbers"]) == count


def test_figures_are_what_plotly_accepts(html: str) -> None:
    import plotly.graph_objects as go

    for figure in figures(html).values():
        for shown in drawn(figure):
            text = re.sub(r"var\(--[\w-]+\)", "#123456", json.dumps(shown))
            go.Figure(json.loads(text))


def test_margins_are_fixed(html: str) -> None:
    for figure in figures(html).values():
        for shown in drawn(figure):
            layout = shown["layout"]
            assert layout["margin"]["autoexpand"] is False
            assert not any(layout[name].get("automargin") for name in ("xaxis", "yaxis"))


def test_numbers_are_cut_to_what_a_screen_shows(html: str) -> None:
    block = html[html.index('id="figures">') :]
    block = block[: block.index("</script>")]
    digits = re.findall(r"\d+\.\d+", re.sub(r'"[^"]*"', "", block))
    assert len(digits) > 1000
    assert max(len(number.replace(".", "").lstrip("0")) for number in digits) <= 5


def test_every_choice_of_the_selectors_has_a_view(page: Outline, html: str) -> None:
    held = figures(html)
    for chart, choices in (("difference-map", 9 * 3 * 2), ("cka-map", 9 * 2)):
        assert len(held[chart]["views"]) == choices
    options = [attrs["value"] for attrs in page.all("option")]
    assert len(options) == 9 + 3 + 2 + 18
    assert len(page.all("select")) == 4


def test_captions_say_that_data_sets_are_taken_as_independent(page: Outline) -> None:
    assert "data sets, which its interval takes as independent" in page.text
    assert "data sets of a phenomenon, which intervals take as independent" in page.text


def test_a_name_can_neither_close_a_script_nor_open_a_tag() -> None:
    names = {"ties-0.6": EVIL, "math": EVIL + "2", "ties": EVIL + "3", "arc_easy": EVIL + "4"}
    study = synthetic_tables(layers=3, pairs=10, items=60, rename=names | {"math + code": EVIL})
    html = render(study, analyse(study, QUICK))
    page = Outline(html)
    assert page.all("img") == []
    assert len(page.all("script")) == 3
    assert all(not name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert EVIL in page.text
    assert "49" not in re.findall(r"\{\{.*?\}\}|</script>(\d+)", page.text)
    held = [shown for figure in figures(html).values() for shown in drawn(figure)]
    for shown in held:
        for trace in shown["data"]:
            trace.pop("meta", None)  # the group's key; Plotly never shows it
    assert "<img" not in json.dumps(held)
    assert "&lt;img" in json.dumps(held)


def test_the_file_replaces_an_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    write_report(small_study(), path, small_analysis())
    first = path.read_text(encoding="utf-8")
    write_report(small_study(), path, small_analysis())
    assert path.read_text(encoding="utf-8") == first
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StoreError, match=r"report\.html: .*disk full"):
        write_report(small_study(), tmp_path / "report.html", small_analysis())
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "report.html", tmp_path):
        with pytest.raises(StoreError, match=str(path)):
            write_report(small_study(), path, small_analysis())
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("lacking", ["items", "scores", "doses", "failures"])
def test_a_study_that_lacks_something_still_has_a_report(lacking: str) -> None:
    study = small_study()
    bare = dataclasses.replace(study, **{lacking: getattr(study, lacking).iloc[:0]})
    page = Outline(render(bare, analyse(bare, QUICK)))
    assert sections(page) >= ALWAYS
    assert "differences" in sections(page) or lacking == "items"


def test_similarities_without_rows_have_no_section() -> None:
    study = small_study()
    bare = dataclasses.replace(study, similarities=study.similarities.iloc[:0])
    page = Outline(render(bare, small_analysis()))
    assert sections(page) == ALWAYS | {"competences", "differences"}
    assert "#similarity" not in {attrs["href"] for attrs in page.all("a")}


def test_bags_of_words_are_a_line_and_never_a_model(page: Outline, html: str) -> None:
    assert "the dashed one the same probe on bags of words" in page.text
    held = figures(html)
    hover = [trace["text"][0] for trace in held["layers-0"]["data"] if trace.get("text")]
    assert "bags of words: 0.61" in hover
    for name, figure in held.items():
        if name.startswith(("preference", "ranks")):
            assert "bag" not in json.dumps(figure), name


def test_behaviour_alone_is_enough() -> None:
    study = synthetic_tables(with_internals=False, items=60)
    html = render(study, analyse(study, QUICK))
    assert sections(Outline(html)) == ALWAYS
    assert "No layer was probed." in html
    assert "Behaviour and internals were not both measured." in html


def test_other_numbers_of_parents_and_no_base() -> None:
    study = small_study()
    for roles in ({"code": "merge"}, {"base": "merge"}, {"ties-0.4": "parent"}):
        role = study.models["model"].map(roles).fillna(study.models["role"])
        other = dataclasses.replace(study, models=study.models.assign(role=role))
        assert sections(Outline(render(other, analyse(other, QUICK)))) >= ALWAYS


def test_failures_and_exclusions_are_shown(page: Outline) -> None:
    assert "out of memory" in page.text
    assert "item comparisons dropped" in page.text
    assert "flagged collapsed" in page.text


def test_the_same_study_gives_the_same_bytes(html: str) -> None:
    again: StudyTables = synthetic_tables(layers=5, pairs=40)
    analysis = analyse(again, Resampling(resamples=400, flips=1999))
    assert render(again, analysis) == html


def test_a_merge_without_numbers_is_collapsed_and_nothing_else() -> None:
    study = small_study()
    items, scores = study.items.copy(), study.scores.copy()
    for frame, columns in ((items, ["value"]), (scores, ["estimate", "low", "high"])):
        lost = (frame["model"] == "ties-0.6") & (frame["domain"] == "behaviour")
        frame.loc[lost, columns] = float("nan")
    scores.loc[(scores["model"] == "ties-0.6") & (scores["domain"] == "behaviour"), "flags"] = (
        "nonfinite"
    )
    broken = dataclasses.replace(study, items=items, scores=scores)
    analysis = analyse(broken, QUICK)
    assert "not finite" in analysis.collapsed["ties-0.6"]
    assert "ties-0.6" not in set(analysis.overall["model"]) | set(analysis.standings["model"])
    assert "its log-probabilities on" in Outline(render(broken, analysis)).text
