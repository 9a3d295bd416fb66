"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiny import tiny_tensors, write_model


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


@pytest.fixture
def tiny_base(tmp_path: Path) -> Path:
    """A tiny Llama folder."""
    return write_model(tmp_path / "base", tiny_tensors(0))


@pytest.fixture
def tiny_children(tmp_path: Path) -> list[Path]:
    """Two full fine-tunes of the tiny Llama."""
    base, children = tiny_tensors(0), []
    for seed in (1, 2):
        noise = tiny_tensors(seed)
        tensors = {name: tensor + 0.1 * noise[name] for name, tensor in base.items()}
        children.append(write_model(tmp_path / f"child{seed}", tensors))
    return children
