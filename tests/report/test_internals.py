from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from miscible.analyse import analyse
from miscible.analyse.competences import CompetenceScores
from miscible.report.charts.competences import competence_charts
from miscible.report.charts.difference_map import MOST_ROWS, difference_maps
from miscible.report.charts.layers import layer_charts
from miscible.report.charts.similarity import similarity_charts
from miscible.report.figure import Chart, ChartGroup
from miscible.report.internals_tables import aggregates_table, profile_table, uncounted
from miscible.report.palette import Palette
from report.synthetic import small_analysis, small_study, synthetic_tables
from report.synthetic_internals import COLLAPSED, FORGETFUL, FORGOTTEN, MERGES
from report.test_page import QUICK

LAYERS = 12


@cache
def maps() -> ChartGroup:
    study = synthetic_tables(layers=LAYERS, pairs=100, items=20)
    return difference_maps(study, analyse(study, QUICK), list(MERGES))


def view(merge: str, reference: str, by: str) -> dict[str, Any]:
    group = maps()
    chosen = zip(group.selectors, (merge, reference, by), strict=True)
    key = " ".join(str(list(selector.options).index(name)) for selector, name in chosen)
    return group.charts[0].views[key]


def marked(figure: dict[str, Any], symbol: str) -> set[tuple[str, int]]:
    names = figure["layout"]["yaxis"]["ticktext"]
    traces = [t for t in figure["data"] if t.get("marker", {}).get("symbol") == symbol]
    return {(names[y], x) for t in traces for x, y in zip(t["x"], t["y"], strict=True)}


def test_a_lost_phenomenon_is_marked_where_it_was_lost() -> None:
    middle = {(FORGOTTEN, layer) for layer in range(LAYERS // 3, LAYERS - LAYERS // 3)}
    for reference in ("math", "code", "mean of parents"):
        worse = marked(view(FORGETFUL, reference, "phenomena"), "triangle-down")
        assert middle <= worse
        assert len(worse - middle) <= 2  # other models differ a little everywhere
    rows = [[cell.text for cell in row] for row in maps().charts[0].table.rows]
    lost = next(row for row in rows if row[:3] == [FORGETFUL, "math", FORGOTTEN])
    assert "4–7" in lost[5]


def test_a_field_is_either_marked_or_hatched() -> None:
    for key, figure in maps().charts[0].views.items():
        heat = figure["data"][0]
        symbols = ("line-ne-open", "triangle-up", "triangle-down")
        found = [marked(figure, symbol) for symbol in symbols]
        assert sum(map(len, found)) == len(set().union(*found)) == np.size(heat["z"]), key
        veiled = np.sum([[cell is not None for cell in row] for row in figure["data"][1]["z"]])
        assert veiled == len(found[0])


def test_of_very_many_data_sets_the_surest_are_shown() -> None:
    study, analysis = small_study(), small_analysis()
    rows = analysis.dataset_maps
    many = [rows.assign(unit=rows["unit"] + f" {i}", q_value=1.0) for i in range(4)]
    many[2] = rows
    crowded = dataclasses.replace(analysis, dataset_maps=pd.concat(many, ignore_index=True))
    (panel,) = difference_maps(study, crowded, list(MERGES)).charts
    names = panel.views["0 0 1"]["layout"]["yaxis"]["ticktext"]
    sure = rows[rows["q_value"] < 1]["unit"].str.replace("tree_depth", "tree_depth (r)")
    assert len(names) == MOST_ROWS
    assert set(sure) <= set(names)
    assert f"Of 52 data sets those {MOST_ROWS} are shown" in panel.caption


def chart(group: ChartGroup, title: str) -> Chart:
    return next(held for held in group.charts if held.title == title)


def test_bars_start_at_the_constant_predictor_and_baselines_are_lines() -> None:
    study, analysis = small_study(), small_analysis()
    group = competence_charts(study, analysis, Palette(study))
    assert [held.title for held in group.charts] == [
        "all competences", "syntax", "semantics", "morphology",
    ]  # fmt: skip
    figure = chart(group, "semantics").figure
    assert len(figure["data"]) == len(study.models)
    assert {trace["base"] for trace in figure["data"]} == {0.5}
    lines = {shape["line"]["dash"]: shape["x0"] for shape in figure["layout"]["shapes"]}
    assert lines == {"dot": 0.5, "dash": pytest.approx(0.61)}
    rows = analysis.competences.rows
    score = rows[(rows["competence"] == "semantics") & (rows["model"] == "math")]["score"].item()
    assert figure["data"][1]["x"][0] == pytest.approx(score - 0.5)


def test_aggregates_end_with_how_far_they_agree() -> None:
    table = aggregates_table(small_analysis(), list(MERGES), small_study())
    assert table
    assert [row[0].text for row in table.rows][-1] == "Kendall's tau"
    assert len(table.rows) == len(small_study().models) + 1
    assert len({len(row) for row in table.rows} | {len(table.columns)}) == 1
    rates = {row[0].text: row[1].text for row in table.rows[:-1]}
    assert int(rates[COLLAPSED]) < 5 < min(int(rates[m]) for m in rates if m != COLLAPSED)


def test_what_does_not_count_is_said() -> None:
    analysis = small_analysis()
    assert list(uncounted(analysis)) == []
    lacking = CompetenceScores(analysis.competences.rows, {"ties-0.4": 2}, ("islands_1",))
    first, second = uncounted(dataclasses.replace(analysis, competences=lacking))
    assert "ties-0.4 (2 data sets missing)" in first
    assert "islands_1" in second


def test_each_phenomenon_has_a_depth_in_each_family() -> None:
    table = profile_table(small_analysis())
    assert table
    assert [row[0].text for row in table.rows] == [
        "agreement", "islands", "npi licensing", "tense", "tree depth",
    ]  # fmt: skip
    families = [column.text for column in table.columns[1:]]
    assert families == ["base", "math", "code", "linear", "slerp", "task_arithmetic", "ties"]
    assert all("best" in cell.note for row in table.rows for cell in row[1:])


def test_a_cka_map_has_the_models_layers_as_rows() -> None:
    study, analysis = small_study(), small_analysis()
    group = similarity_charts(study, analysis, Palette(study), list(MERGES))
    pairs = list(group.selectors[0].options)
    assert len(pairs) == 2 * len(MERGES)
    figure = chart(group, "CKA of all layers").views[str(pairs.index("ties-0.4 with code"))]
    rows = study.similarities
    rows = rows[(rows["model"] == "ties-0.4") & (rows["other"] == "code")]
    rows = rows[rows["metric"] == "cka"].set_index(["layer", "other_layer"])["estimate"]
    assert figure["data"][0]["z"][4][1] == pytest.approx(rows[(4, 1)], abs=1e-3)
    assert rows[(4, 1)] != pytest.approx(rows[(1, 4)], abs=1e-3)
    assert figure["layout"]["yaxis"]["title"]["text"] == "layer of ties-0.4"


def test_curves_are_those_of_equal_layers_and_of_what_was_measured() -> None:
    study, analysis = small_study(), small_analysis()
    group = similarity_charts(study, analysis, Palette(study), list(MERGES))
    assert len(group.charts) == 1 + 2 * 5 + 2
    rows = study.similarities
    some = dataclasses.replace(study, similarities=rows[rows["metric"] == "cosine"])
    group = similarity_charts(some, analysis, Palette(study), list(MERGES))
    assert [held.title for held in group.charts] == ["Cosine with math", "Cosine with code"]
    assert group.selectors == []
    lines = [trace for trace in group.charts[0].figure["data"] if trace.get("text")]
    assert len(lines) == len(MERGES)
    hidden = {t["meta"]["group"] for t in lines if t.get("visible") is False}
    assert hidden == {toggle.group for toggle in group.toggles if not toggle.shown}
    assert COLLAPSED in hidden


def test_layer_panels_have_baselines_and_selectivity() -> None:
    study, analysis = small_study(), small_analysis()
    group = layer_charts(study, analysis, Palette(study), list(MERGES))
    panel = chart(group, "tree depth")
    assert "Pearson" in panel.figure["layout"]["yaxis"]["title"]["text"]
    levels = {t["line"]["dash"]: t["y"][0] for t in panel.figure["data"] if "meta" not in t}
    assert levels == {"dot": 0.0, "dash": pytest.approx(0.31)}
    strip = [trace for trace in panel.figure["data"] if trace.get("yaxis") == "y2"]
    assert len(strip) == len(study.models)
    plain = dataclasses.replace(study, scores=study.scores.assign(selectivity=np.nan))
    panel = chart(layer_charts(plain, analysis, Palette(study), list(MERGES)), "tree depth")
    assert "yaxis2" not in panel.figure["layout"]
