"""The report of a study: one offline HTML file."""

from __future__ import annotations

from miscible.report.page import write_report

__all__ = ["write_report"]
