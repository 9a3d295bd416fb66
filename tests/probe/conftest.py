"""A real model of 260k parameters and sentences for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from miscible.models import LiveModel, open_checkpoint


@pytest.fixture(scope="session")
def stories(shared_data: Path) -> LiveModel:
    """A Llama that wrote children's stories; its tokenizer prepends ``<s>``."""
    return LiveModel.load(open_checkpoint(str(shared_data / "models/stories260k")))


@pytest.fixture
def sentences() -> list[str]:
    """Sentences of quite different lengths."""
    return [
        "Tom ran.",
        "The little dog was very happy to see its friend near the big old tree.",
        "Lily and her mom went to the park, and they played with a red ball until it was dark.",
        "One day, a bird sang.",
        "The cat slept in the sun.",
    ]
