"""Studies: a YAML file becomes a plan of steps, the steps become rows."""

from __future__ import annotations

from miscible.study.study import Study

__all__ = ["Study"]
