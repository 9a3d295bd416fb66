"""Calibration statistics: what a model's weights receive or how much its likelihood needs them.

Collected once a model on a small text (`collect`), kept in a small file that can be published
(`files`), and used by merging methods that are declared with ``needs="gram"`` or ``"fisher"``.
"""

from __future__ import annotations

from miscible.merge.statistics.files import Statistics, StatisticsFile, write_statistics

__all__ = ["Statistics", "StatisticsFile", "write_statistics"]
