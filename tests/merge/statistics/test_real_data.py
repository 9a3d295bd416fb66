"""Merges from statistics beat the mean on real images: upright and rotated digits."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from miscible.merge.contract import METHODS, Context, Site
from miscible.merge.spaces import Weights
from miscible.merge.statistics.collect import collect_fisher, collect_gram
from miscible.merge.statistics.sequential import collect_sequential

CALIBRATION = 300


@pytest.fixture(scope="module")
def digits(shared_data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    held = np.load(shared_data / "vision" / "mnist_full" / "mnist.npz")
    chosen = np.random.default_rng(0).permutation(60000)[:10000]
    images = torch.from_numpy(held["x_train"][chosen]).float().reshape(-1, 784) / 255
    return images, torch.from_numpy(held["y_train"][chosen]).long()


def rotated(images: torch.Tensor) -> torch.Tensor:
    return images.reshape(-1, 28, 28).rot90(1, (1, 2)).reshape(-1, 784)


def trained(net: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> nn.Module:
    net = deepcopy(net)
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (128,), generator=draw)
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
        optimiser.step()
    return net


def log_likelihood(model: nn.Module, example: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return -nn.functional.cross_entropy(model(example[0]), example[1])


def test_merges_from_statistics_beat_the_mean(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(0)
    x, y = digits
    tasks = [x, rotated(x)]
    shell = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                          nn.Linear(64, 10))  # fmt: skip
    base = trained(shell, x[:1000], y[:1000], 30)
    models = [trained(base, own[:8000], y[:8000], 120) for own in tasks]
    states = [{name: t.clone() for name, t in m.state_dict().items()} for m in models]

    def merge_tensor(method: str, name: str, tensors: Any, statistics: Any) -> torch.Tensor:
        held = METHODS.get(method)
        values = {p.name: (1.0, 1.0) if p.per_model else p.default
                  for p in held.parameters.values()}  # fmt: skip
        return held(Weights(tensors), values, Context(Site(name), statistics=statistics)).tensor

    def accuracy(method: str, statistics: list[Any]) -> float:
        merged = deepcopy(shell)
        merged.load_state_dict(
            {
                name: merge_tensor(
                    method, name, [s[name] for s in states], [s.get(name) for s in statistics]
                )
                for name in states[0]
            }
        )
        found = [merged(own[8000:]).argmax(dim=1) == y[8000:] for own in tasks]
        return float(torch.cat(found).float().mean())

    inputs = [[own[:CALIBRATION]] for own in tasks]
    labelled = [[(own[:CALIBRATION], y[:CALIBRATION])] for own in tasks]
    grams = [collect_gram(m, own).tensors for m, own in zip(models, inputs, strict=True)]
    fishers = [
        collect_fisher(m, own, log_likelihood=log_likelihood).tensors
        for m, own in zip(models, labelled, strict=True)
    ]
    in_order = collect_sequential(
        deepcopy(shell), [s.__getitem__ for s in states], inputs,
        lambda name, tensors, found: merge_tensor("regmean", name, tensors, found),
    )  # fmt: skip
    mean = accuracy("linear", [{}, {}])
    assert accuracy("fisher", fishers) > mean + 0.02
    assert accuracy("regmean", grams) > mean + 0.02
    assert accuracy("regmean", in_order) > mean + 0.02
    # The lower bound is no chance result: the mean itself is far from both models' own accuracy.
    own_accuracy = float((models[0](x[8000:]).argmax(dim=1) == y[8000:]).float().mean())
    assert 0.3 < mean < own_accuracy - 0.1
