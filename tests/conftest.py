"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data for tests; it is not part of the project."""
    folder = Path(os.environ.get("MISCIBLE_SHARED_DATA", "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder} (set MISCIBLE_SHARED_DATA)")
    return folder.resolve()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    if "MISCIBLE_TEST_KEEP_CACHE" not in os.environ:
        monkeypatch.setenv("MISCIBLE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
