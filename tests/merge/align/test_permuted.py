from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from miscible.errors import IncompatibleModelsError, MiscibleError
from miscible.merge.align import aligned_to, infer_spec
from miscible.merge.align.weight_matching import permuted
from miscible.models.checkpoint import FolderCheckpoint
from miscible.models.memory import MemoryCheckpoint
from tiny import tiny_tensors, write_model


@pytest.fixture
def target(tmp_path: Path) -> FolderCheckpoint:
    return FolderCheckpoint(write_model(tmp_path / "target", tiny_tensors(0)))


@pytest.fixture
def shuffled(target: FolderCheckpoint) -> MemoryCheckpoint:
    """A fine-tune of the target whose units are in another order."""
    spec = infer_spec(target.tensors, {**target.config, "rope_theta": 1e4})
    rng = np.random.default_rng(3)
    moves = {group.name: rng.permutation(group.size) for group in spec.groups}
    state = {
        name: permuted(tensor + 0.01 * torch.randn_like(tensor), spec.of(name), moves)
        for name, tensor in tiny_tensors(0).items()
    }
    return MemoryCheckpoint("shuffled", state, config={**target.config, "rope_theta": 1e4})


def test_units_return_to_their_places(target: FolderCheckpoint, shuffled: MemoryCheckpoint) -> None:
    aligned = aligned_to(shuffled, target)
    assert aligned.tensors == shuffled.tensors
    assert (aligned.name, aligned.config) == ("shuffled", shuffled.config)
    for name in target.tensors:
        assert (aligned.read(name) - target.read(name)).abs().max() < 0.1
        assert aligned.read(name, torch.bfloat16).equal(aligned.read(name).bfloat16())
    assert not all(shuffled.read(name).equal(aligned.read(name)) for name in target.tensors)


def test_the_fingerprint_is_of_both(target: FolderCheckpoint, shuffled: MemoryCheckpoint) -> None:
    first = aligned_to(shuffled, target).fingerprint
    assert aligned_to(shuffled, target).fingerprint == first
    assert first not in (shuffled.fingerprint, target.fingerprint)
    other = MemoryCheckpoint("other", tiny_tensors(5))
    assert aligned_to(shuffled, other).fingerprint != first


def test_bytes_lie_in_files_only_where_nothing_moves(target: FolderCheckpoint) -> None:
    aligned = aligned_to(target, target)
    assert aligned.files == target.files
    assert aligned.extent("model.norm.weight") == target.extent("model.norm.weight")
    assert aligned.extent("model.layers.0.mlp.up_proj.weight") is None
    assert aligned.low_rank_delta("model.norm.weight", target) is None


def test_models_that_do_not_fit(target: FolderCheckpoint, tmp_path: Path) -> None:
    tensors = tiny_tensors(1)
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    with pytest.raises(IncompatibleModelsError, match=r"other: tensor .*up_proj.* is missing"):
        aligned_to(target, MemoryCheckpoint("other", tensors))
    with pytest.raises(MiscibleError, match="no units"):
        aligned_to(MemoryCheckpoint("m", {"a": torch.ones(2)}), target)
