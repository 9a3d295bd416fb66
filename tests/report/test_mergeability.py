"""What the page says of fine-tunes before any merge: maps, a plane, pairs, profiles."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from measure.synthetic import State, base_state, child
from miscible.measure.api import measure
from miscible.measure.result import Measurement
from miscible.records import MergeabilityRow, to_frame
from miscible.report.charts.metric_maps import clustered, in_a_plane, metric_maps
from miscible.report.charts.metric_pairs import metric_pairs
from miscible.report.figure import width
from miscible.report.measure_page import render_measurement, write_measure_page
from miscible.report.mergeability import Mergeability
from report.test_page import EVIL, Outline, figures


def found(names: list[str], **more: object) -> Measurement:
    base = base_state()
    models: dict[str, State] = {name: child(base, number) for number, name in enumerate(names)}
    if "broken" in models:
        models["broken"]["norm.weight"] = torch.full((16,), math.nan)
    return measure(base, models, cache=False, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def five() -> Measurement:
    return found(["a", "b", "c", "d", "broken"], by="layer")


def held_of(measured: Measurement) -> Mergeability:
    return Mergeability(to_frame(measured.rows(), MergeabilityRow), measured.base)


def test_values_are_those_of_the_measurement(five: Measurement) -> None:
    held = held_of(five)
    assert held.models == ["a", "b", "c", "d", "broken"]
    assert held.pairs == list(combinations(held.models, 2))
    for metric in ("task_vector_cosine_similarity", "task_vector_l2_distance"):
        np.testing.assert_equal(held.matrix(metric), five.matrix(metric))
    cell = held.cell("broken", "a", "stable_rank")
    assert cell.text == "failed" and "NaN" in cell.reason
    assert held.scalar("a", "task_vector_norm") == five.models[0].norm
    assert math.isnan(held.scalar("broken", "task_vector_norm"))


def test_models_that_are_alike_stand_together_and_those_without_values_last() -> None:
    groups = [0, 1, 0, 1, 0, 2]
    matrix = np.array([[0.9 if a == b else 0.1 for b in groups] for a in groups])
    matrix += 0.01 * np.arange(6)
    np.fill_diagonal(matrix, math.nan)
    matrix[5] = matrix[:, 5] = math.nan
    order = clustered(matrix)
    assert sorted(order) == list(range(6)) and order[-1] == 5
    kinds = [groups[i] for i in order[:-1]]
    assert kinds in ([0, 0, 0, 1, 1], [1, 1, 0, 0, 0])
    assert clustered(matrix[:2, :2]) == [0, 1]


def test_the_plane_keeps_distances_where_two_dimensions_are_enough() -> None:
    vectors = np.array([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0], [1.0, 1.0, 0.0]])
    places, shares = in_a_plane(vectors @ vectors.T)
    whole = np.vstack([vectors, np.zeros(3)])
    for i, j in combinations(range(4), 2):
        wanted = np.linalg.norm(whole[i] - whole[j])
        assert np.linalg.norm(places[i] - places[j]) == pytest.approx(wanted)
    assert shares.sum() == pytest.approx(1)


def test_every_metric_and_pair_has_its_view(five: Measurement) -> None:
    held = held_of(five)
    maps = metric_maps(held)
    chart = next(chart for chart in maps.charts if chart.id == "metric-map")
    assert len(chart.views) == len(maps.selectors[0].options) == len(held.metrics) == 24
    (heat,) = chart.views["0"]["data"]
    names = chart.views["0"]["layout"]["yaxis"]["ticktext"]
    cosine = held.matrix("task_vector_cosine_similarity")
    i, j = (held.models.index(name) for name in names[:2])
    assert heat["z"][0][1] == pytest.approx(cosine[i, j])
    assert names[-1] == "broken" and heat["text"][-1] == [""] * 5
    pairs = metric_pairs(held)
    assert [chart.id for chart in pairs.charts] == ["metric-pair", "metric-pair-layers"]
    assert len(pairs.charts[0].views) == len(pairs.selectors[0].options) == 10
    marks = pairs.charts[0].views["0"]["data"][2]
    assert len(marks["x"]) == 24 and all(0 <= x <= 1 for x in marks["x"])


def test_the_margins_of_the_map_hold_its_names() -> None:
    held = held_of(found([f"SmolLM2-135M-{name}-instruct" for name in ("law", "code", "math")]))
    (chart,) = (chart for chart in metric_maps(held).charts if chart.id == "metric-map")
    layout = chart.views["0"]["layout"]
    for axis, side in (("xaxis", "b"), ("yaxis", "l")):
        assert layout["margin"][side] >= width(layout[axis]["ticktext"], 99)


def test_the_page_is_whole_and_harmless(five: Measurement, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_measure_page(five, path)
    html = path.read_text()
    page = Outline(html)
    assert set(figures(html)) == {
        "metric-map", "model-map", "metric-pair", "metric-pair-layers", "change-profile",
    }  # fmt: skip
    assert "broken: tensor 'norm.weight' holds NaN" in page.text
    assert [tag for tag in page.all("script") if tag.get("src")] == []
    evil = render_measurement(found([EVIL, "b", "c"]))
    assert "<img" not in evil.replace(EVIL, "") and not Outline(evil).all("img")


def test_two_models_have_a_plane_and_a_pair_but_no_map() -> None:
    html = render_measurement(found(["a", "b"], by="role"))
    assert set(figures(html)) == {"model-map", "metric-pair", "change-profile"}


def test_without_a_norm_there_is_no_plane() -> None:
    base = base_state()
    two = measure(base, {"a": base_state(5), "b": base_state(6)}, cache=False)
    assert {model.status for model in two.models} == {"excluded"}
    assert metric_maps(held_of(two)).charts == []
