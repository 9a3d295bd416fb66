"""The page of metrics is that of the registry, and its metric obeys the laws."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from miscible.measure.catalogue import markdown
from miscible.measure.contract import METRICS
from miscible.testing.metrics import check_metric

PAGE = (Path(__file__).parents[2] / "docs/mergeability.md").read_text()


def test_the_page_of_metrics_is_that_of_the_registry() -> None:
    assert PAGE.endswith(markdown()), (
        "put what 'python -m miscible.measure.catalogue' prints at the end of docs/mergeability.md"
    )


def test_the_metric_of_the_page_obeys_the_laws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    METRICS.names()
    before = dict(METRICS._objects)
    (code,) = (b for b in re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL) if "@metric" in b)
    (tmp_path / "metric_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        __import__("metric_of_the_page")
        check_metric("norm_gap")
    finally:
        METRICS._objects.clear()
        METRICS._objects.update(before)
