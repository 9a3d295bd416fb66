"""The page of a fit: what it says is what validation found; names of strangers stay text."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from miscible.predict.fitting import Fit, fit
from miscible.predict.pairs import PairTable
from miscible.predict.tables import read_tables
from miscible.predict.validation.settings import Settings
from miscible.report.fit_page import render_fit
from predict.merged_tables import write_tables

EVIL = "</script><b>ties"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fit, PairTable]:
    tables = write_tables(tmp_path_factory.mktemp("tables"), methods=[EVIL, "average"])
    table = read_tables(*tables)
    return fit(table, settings=Settings(k=4, draws=5, null=9, bootstrap=50, seeds=1)), table


@pytest.fixture(scope="module")
def html(made: tuple[Fit, PairTable]) -> str:
    return render_fit(*made)


def figures(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.S)
    assert found is not None
    held: dict[str, Any] = json.loads(found[1])
    return held


def test_charts_hold_the_scores(made: tuple[Fit, PairTable], html: str) -> None:
    found, held = made[0], figures(html)
    for number, each in enumerate(found.validations.values()):
        assert each.own.loto is not None
        data = held["forest-loto-r"]["views"][str(number)]["data"]
        drawn = [t["x"][0] for t in data if t.get("marker", {}).get("symbol") == "circle"]
        assert drawn == [pytest.approx(each.own.loto.r_mean, rel=1e-4)]
        truth = held["truth-one"]["views"][str(number)]["data"][1]
        assert len(truth["x"]) == 2 * 36  # every pair is forecast without each of its models
        bars = held["fingerprint"]["views"][str(number)]["data"][0]["x"]
        weights = sorted((w for w in each.coefficients.values() if w), key=lambda w: -abs(w))
        assert bars == pytest.approx(weights, rel=1e-4)


def test_sentences_tell_skill_and_the_best_rival(html: str) -> None:
    text = re.sub(r"<wbr>", "", html)
    assert "average: it ranks pairs of two new models" in text
    assert "ahead of its best baseline, best metric" in text or "behind" in text


def test_names_cannot_leave_their_place(html: str) -> None:
    assert EVIL not in html
    assert "&lt;/script&gt;" in html
    for script in re.findall(r"<script[^>]*>(.*?)</script>", html, re.S):
        assert "<b>ties" not in script


def test_a_fit_without_null_or_held_out_pairs_is_a_page_too(
    made: tuple[Fit, PairTable],
) -> None:
    table = made[1]
    found = fit(table, settings=Settings(k=None, null=0, bootstrap=0, seeds=1))
    page = figures(render_fit(found, table))
    assert "forest-loto-r" in page
    assert "forest-lkto-r" not in page
    assert "truth-both" not in page
