"""Small data sets."""

from __future__ import annotations

from miscible.probe.dataset import MinimalPair, ProbeDataset


def dataset_of(sentences: list[tuple[str, str]], name: str = "toy") -> ProbeDataset:
    """A data set of pairs (good, bad)."""
    pairs = tuple(MinimalPair(str(i), good, bad) for i, (good, bad) in enumerate(sentences))
    return ProbeDataset.of_pairs(name, "toy", "syntax", "en", pairs)
