"""Probes that are not linear: a perceptron with one hidden layer, and nearest neighbours.

For information that a linear probe cannot read. They are no upper bound of anything: their
settings are fixed, not tuned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import nll_loss, normalize, one_hot

from miscible.errors import DatasetError
from miscible.probe.fit.held_out import HeldOut, Split
from miscible.probe.fit.standardise import CONSTANT, check_finite

NEIGHBOURS = (31, 15, 7, 3, 1)

_EPOCHS, _PATIENCE, _BATCH = 100, 5, 64
_RATE = 1e-3


def mlp(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    classes: int,
    split: Split,
    *,
    hidden: int = 64,
    seed: int = 0,
) -> HeldOut:
    """Fit a perceptron with one hidden layer (ReLU) to every layer and label column.

    Adam at 1e-3 in batches of 64, features standardised on the training rows, at most 100 epochs;
    each fit keeps its weights of least development loss and ends 5 epochs after it. `HeldOut` has
    the log-probabilities, penalties of 0, and whether every fit of a layer ended by itself.

    Args:
        features: finite, [rows, layers, width].
        labels: [columns, rows].
        classes: number of classes.
        split: rows to fit, to stop on, and to score.
        hidden: width of the hidden layer.
        seed: of the weights and the order of rows, the same for all layers and columns.

    Raises:
        DatasetError: features that are not finite.
    """
    check_finite(features)
    columns, layers = len(labels), features.shape[1]
    marks = torch.tensor(labels)
    scores = np.empty((columns, layers, len(split.test), classes))
    ended = np.empty(layers, dtype=bool)
    for layer in range(layers):
        train, dev, test = _standardised(features[:, layer], split)
        generator = torch.Generator().manual_seed(seed)
        network = _Perceptron(columns, train.shape[1], hidden, classes, generator)
        ended[layer] = network.fit(
            train, marks[:, split.train], dev, marks[:, split.dev], generator
        )
        scores[:, layer] = network(test).detach().double().numpy()
    return HeldOut(scores, np.zeros((columns, layers)), ended)


class _Perceptron:
    """Perceptrons of several label columns on the same rows; they share no weights."""

    def __init__(
        self, columns: int, width: int, hidden: int, classes: int, generator: torch.Generator
    ) -> None:
        def start(inputs: int, outputs: int) -> torch.Tensor:
            # One draw for all columns: a column's probe must not depend on its neighbours.
            drawn = torch.rand(1, inputs, outputs, generator=generator) * 2 - 1
            weights: torch.Tensor = (drawn / inputs**0.5).repeat(columns, 1, 1)
            weights.requires_grad = True
            return weights

        self._weights = [start(width, hidden), start(hidden, classes)]
        self._biases = [
            torch.zeros(columns, 1, size, requires_grad=True) for size in (hidden, classes)
        ]

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities, [columns, rows, classes]."""
        hidden = (rows @ self._weights[0] + self._biases[0]).relu()
        logits: torch.Tensor = hidden @ self._weights[1] + self._biases[1]
        return logits.log_softmax(dim=-1)

    def fit(
        self,
        train: torch.Tensor,
        labels: torch.Tensor,
        dev: torch.Tensor,
        dev_labels: torch.Tensor,
        generator: torch.Generator,
    ) -> bool:
        """Train with early stopping and tell whether every column stopped by itself."""
        parameters = [*self._weights, *self._biases]
        best = [each.detach().clone() for each in parameters]
        least = torch.full((len(labels),), torch.inf)
        waited = torch.zeros(len(labels), dtype=torch.int64)
        optimiser = torch.optim.Adam(parameters, lr=_RATE)
        for _ in range(_EPOCHS):
            order = torch.randperm(len(train), generator=generator)
            for batch in torch.split(order, _BATCH):
                optimiser.zero_grad()
                # Summed over columns, so that each has the gradient of its own mean.
                total = _losses(self(train[batch]), labels[:, batch]).sum()
                total.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            with torch.no_grad():
                loss = _losses(self(dev), dev_labels)
            better = (loss < least) & (waited < _PATIENCE)
            waited = torch.where(better, 0, waited + 1)
            least = torch.where(better, loss, least)
            for kept, now in zip(best, parameters, strict=True):
                kept[better] = now.detach()[better]
            if (waited >= _PATIENCE).all():
                break
        with torch.no_grad():
            for kept, now in zip(best, parameters, strict=True):
                now.copy_(kept)
        return bool((waited >= _PATIENCE).all())


def _losses(logs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean log-loss of each column."""
    return nll_loss(logs.mT, labels, reduction="none").mean(dim=1)


def knn(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    classes: int,
    split: Split,
    *,
    metric: str = "cosine",
    neighbours: Sequence[int] = NEIGHBOURS,
) -> HeldOut:
    """Let the nearest training rows of each layer vote.

    Features are standardised on the training rows. A class with v of k votes gets the probability
    (v + 1 / classes) / (k + 1); the k of least development log-loss is taken, and stands in
    `HeldOut.penalties`.

    Args:
        features: finite, [rows, layers, width].
        labels: [columns, rows].
        classes: number of classes.
        split: rows that vote, to choose k on, and to score.
        metric: "cosine" or "euclidean".
        neighbours: numbers of neighbours to choose from, first of equals; those above the number
            of training rows count as that.

    Raises:
        DatasetError: features that are not finite, or an unknown metric.
    """
    if metric not in ("cosine", "euclidean"):
        raise DatasetError(f"metric must be 'cosine' or 'euclidean'. Got {metric!r} instead.")
    check_finite(features)
    columns, layers = len(labels), features.shape[1]
    votes = one_hot(torch.from_numpy(labels[:, split.train]), classes).double()
    answers = torch.from_numpy(labels[:, split.dev])
    counts = [min(count, len(split.train)) for count in neighbours]
    scores = np.empty((columns, layers, len(split.test), classes))
    chosen = np.empty((columns, layers))
    for layer in range(layers):
        train, dev, test = _standardised(features[:, layer], split)
        rows = torch.cat([dev, test])
        if metric == "cosine":
            near = normalize(rows, dim=1) @ normalize(train, dim=1).T
        else:
            near = -torch.cdist(rows, train)
        nearest = near.topk(max(counts), dim=1).indices
        cast = votes[:, nearest].cumsum(dim=2)
        logs = torch.stack(
            [((cast[:, :, count - 1] + 1 / classes) / (count + 1)).log() for count in counts]
        )
        held = logs[:, :, : len(dev)].gather(-1, answers.expand(len(counts), -1, -1).unsqueeze(-1))
        best = (-held.squeeze(-1)).sum(dim=-1).argmin(dim=0)
        scores[:, layer] = logs[best, torch.arange(columns), len(dev) :].numpy()
        chosen[:, layer] = np.asarray(counts)[best.numpy()]
    return HeldOut(scores, chosen, np.ones(layers, dtype=bool))


def _standardised(states: npt.NDArray[np.float32], split: Split) -> tuple[torch.Tensor, ...]:
    wide = states.astype(np.float64)
    mean, deviation = wide[split.train].mean(axis=0), wide[split.train].std(axis=0)
    safe = np.where(deviation > CONSTANT * np.abs(mean), deviation, np.inf)
    standard = ((wide - mean) / safe).astype(np.float32)
    return tuple(torch.from_numpy(standard[part]) for part in split)
