"""The reference probe of the Holmes benchmark (arXiv 2404.18923), for comparison only.

It keeps what makes that protocol unfit for comparing a merge with its parents: cross-entropy is
taken of probabilities instead of logits (a softmax of a softmax), and features are not
standardised, so scores change with the norm of the activations. Use `miscible.probe.fit.held_out`
for anything but a comparison with published numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from miscible.errors import DatasetError
from miscible.probe.fit.held_out import Split

SEEDS = (0, 1, 2, 3, 4)

_EPOCHS, _PATIENCE, _BATCH = 20, 5, 16
_RATE, _DROPOUT, _WARM_UP = 1e-3, 0.2, 0.1


def holmes_scores(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float64],
    classes: int,
    split: Split,
    seeds: Sequence[int] = SEEDS,
) -> npt.NDArray[np.float64]:
    """Train the reference probe on one layer with each seed and return its test scores.

    Dropout of 0.2 and one linear layer; Adam at 1e-3 in batches of 16 for at most 20 epochs, the
    rate rising over the first 10 % of the steps and then falling to 0; training ends after 5 epochs
    without a lower development loss, and the weights of the lowest are tested.

    Args:
        features: of one layer (the reference: the last), [rows, width].
        labels: [rows]; classes, or values if *classes* is 1.
        classes: number of classes, or 1 for regression.
        split: as the data set gives it.
        seeds: of the weights, dropout and order of rows.

    Returns:
        Macro-averaged F1 over the classes in the test rows or predicted, or Pearson correlation
        (NaN if the predictions are constant), float64 [seeds].

    Raises:
        DatasetError: features that are not finite.
    """
    if not np.isfinite(features).all():
        raise DatasetError("the features are not finite.", fix="Leave out rows that overflow.")
    rows = torch.tensor(features)
    kind = torch.float32 if classes == 1 else torch.int64
    marks = torch.tensor(labels, dtype=kind)
    parts = [torch.from_numpy(part) for part in split]
    found = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            probe = _train(rows, marks, classes, parts[0], parts[1])
        with torch.no_grad():
            output = probe(rows[parts[2]])
        truth = labels[split.test]
        if classes == 1:
            found.append(_pearson(output.squeeze(1).double().numpy(), truth))
        else:
            found.append(_macro_f1(output.argmax(dim=1).numpy(), truth))
    return np.asarray(found, dtype=np.float64)


def _train(
    rows: torch.Tensor,
    marks: torch.Tensor,
    classes: int,
    train: torch.Tensor,
    dev: torch.Tensor,
) -> nn.Module:
    probe = nn.Sequential(nn.Dropout(_DROPOUT), nn.Linear(rows.shape[1], classes))
    optimiser = torch.optim.Adam(probe.parameters(), lr=_RATE)
    total = _EPOCHS * -(-len(train) // _BATCH)
    warm = max(1, round(_WARM_UP * total))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / warm, (total - step) / max(1, total - warm)),
    )
    least, waited, best = np.inf, 0, deepcopy(probe)
    for _ in range(_EPOCHS):
        probe.train()
        order = train[torch.randperm(len(train))]
        for batch in torch.split(order, _BATCH):
            optimiser.zero_grad()
            _loss(probe(rows[batch]), marks[batch]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        probe.eval()
        with torch.no_grad():
            loss = float(_loss(probe(rows[dev]), marks[dev]))
        if loss < least:
            least, waited, best = loss, 0, deepcopy(probe)
        else:
            waited += 1
            if waited == _PATIENCE:
                break
    return best.eval()


def _loss(output: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
    if output.shape[1] == 1:
        return mse_loss(output.squeeze(1), marks)
    # `cross_entropy` takes the softmax again: the defect of the reference, kept on purpose.
    return cross_entropy(output.softmax(dim=1), marks)


def _macro_f1(predicted: npt.NDArray[np.int64], truth: npt.NDArray[np.generic]) -> float:
    scores = []
    for label in np.union1d(predicted, truth):
        both = np.sum((predicted == label) & (truth == label))
        scores.append(2 * both / (np.sum(predicted == label) + np.sum(truth == label)))
    return float(np.mean(scores))


def _pearson(predicted: npt.NDArray[np.float64], truth: npt.NDArray[np.generic]) -> float:
    if np.ptp(predicted) == 0 or np.ptp(truth.astype(np.float64)) == 0:
        return float("nan")
    return float(np.corrcoef(predicted, truth.astype(np.float64))[0, 1])
