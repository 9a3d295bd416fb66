"""Each checkpoint is read once, a tensor of all models at a time."""

from __future__ import annotations

import weakref
from collections import Counter

import numpy as np
import pytest
import torch

from measure.synthetic import SHAPES, State, base_state, children
from miscible.measure.api import measure
from miscible.models.memory import MemoryCheckpoint


class Counting(MemoryCheckpoint):
    """Counts how often each tensor is read, and which of those that were read are still held."""

    def __init__(self, name: str, state: State, log: Log) -> None:
        super().__init__(name, state)
        self.log = log

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        # A tensor keeps the array alive whose memory it uses, whatever is made of the tensor.
        memory = super().read(name, dtype).numpy()
        self.log.reads[self.name, name] += 1
        self.log.order.append(name)
        self.log.alive.append((name, weakref.ref(memory)))
        held = {alive for alive, reference in self.log.alive if reference() is not None}
        self.log.most = max(self.log.most, len(held))
        return torch.from_numpy(memory)


class Log:
    def __init__(self) -> None:
        self.reads: Counter[tuple[str, str]] = Counter()
        self.order: list[str] = []
        self.alive: list[tuple[str, weakref.ref[np.ndarray]]] = []
        self.most = 0


@pytest.mark.parametrize("cached", [False, True])
def test_each_tensor_is_read_once_and_forgotten(
    cached: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base, log = base_state(), Log()
    models = {name: Counting(name, state, log) for name, state in children(base, 5).items()}
    folder = tmp_path_factory.mktemp("cache")
    found = measure(
        Counting("base", base, log), models, cache=folder if cached else False, by="role"
    )
    assert len(found.pairs) == 10
    assert set(log.reads.values()) == {1}
    assert len(log.reads) == 6 * len(SHAPES)
    # The tensor before may still be held while the next one is read, and no other.
    assert log.most <= 2
    assert list(dict.fromkeys(log.order)) == list(SHAPES)
    assert log.order == [name for name in SHAPES for _ in range(6)]
