"""Cross-fitted linear probes of all layers: every row is predicted by a probe that never saw it.

For each test fold the features are standardised on the other folds, and the penalty is chosen by
cross-validation among these. The inner fits are shared: the probe trained without folds f and g
serves as an inner fit for test fold f (validated on g) and for test fold g (validated on f), so K
folds need K (K - 1) / 2 inner fits instead of K (K - 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import softplus

from miscible.errors import DatasetError
from miscible.probe.fit.gram_fits import GramFits
from miscible.probe.fit.shared_rows import EXACT, ROUGH, Accuracy, SharedFits

PENALTIES = (100.0, 10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)
"""Strongest first. In units of the number of features: the penalty on w is this times d, so that
one grid fits every width (scikit-learn's C is 1 / (penalty d))."""

PASSED = 1.05
"""Penalties weaker than one whose validation loss is this many times the least are not tried: they
overfit more, and cost more than all the others together."""

SETTLED = 0.02
"""Nor are those weaker than one whose validation loss is at most so many nats a row: what is told
apart with such confidence is told apart at weaker penalties as well."""

_CHUNK_BYTES = 2**25
_FEW = 1000
"""Up to so many rows, and no more than features, Gram matrices are the cheaper; those of the splits
of five folds are then 100 MB a layer."""

_SMALL = 1000
"""With fewer rows, thread barriers cost more than threads gain (27-fold on a busy machine)."""


Splits: TypeAlias = Sequence[tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class CrossFit:
    """Out-of-fold results.

    Attributes:
        scores: log-odds of label 1, float64 [columns, layers, rows].
        penalties: chosen for each test fold, [columns, layers, folds].
        converged: whether every fit behind a layer's scores converged, [layers].
    """

    scores: npt.NDArray[np.float64]
    penalties: npt.NDArray[np.float64]
    converged: npt.NDArray[np.bool_]


def cross_fit(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.bool_],
    folds: npt.NDArray[np.int64],
    penalties: Sequence[float] = PENALTIES,
) -> CrossFit:
    """Fit probes on every layer and label column and return their out-of-fold scores.

    Args:
        features: finite, [rows, layers, width].
        labels: [columns, rows]; the columns share all work but the last.
        folds: fold of each row, 0 ... K-1, [rows].
        penalties: grid to choose from (see `PENALTIES`, `PASSED`, `SETTLED`), strongest first.

    Raises:
        DatasetError: fewer than 3 folds.
    """
    count = int(folds.max()) + 1
    if count < 3:
        raise DatasetError(f"a cross-fitted probe needs at least 3 folds. Got {count} instead.")
    rows, layers, _ = features.shape
    columns = labels.shape[0]
    marks = torch.from_numpy(labels.astype(np.float64))
    where = torch.from_numpy(folds)
    inner = list(combinations(range(count), 2))
    outer = [(fold,) for fold in range(count)]
    scores = np.empty((columns, layers, rows))
    chosen = np.empty((columns, layers, count))
    converged = np.empty(layers, dtype=bool)
    with threads_for(rows):
        for part in _layer_chunks(features.shape, len(inner), columns):
            states = torch.from_numpy(features[:, part].transpose(1, 0, 2).copy())
            best, finished = _choose_penalties(states, marks, where, inner, penalties)
            fits = _fits(states, where, outer, EXACT)
            everywhere = fits.solve(marks, best)
            for fold in range(count):
                held_out = folds == fold
                scores[:, part, held_out] = everywhere[fold][..., held_out].transpose(0, 1).numpy()
            chosen[:, part] = best.permute(2, 1, 0).numpy()
            converged[part] = (finished & fits.finished).numpy()
    return CrossFit(scores, chosen, converged)


@contextmanager
def threads_for(rows: int) -> Iterator[None]:
    """Let torch use one thread while few rows are fitted, whatever it uses otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if rows < _SMALL else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fits(
    states: torch.Tensor, folds: torch.Tensor, splits: Splits, accuracy: Accuracy
) -> GramFits | SharedFits:
    """Return the cheaper way to fit."""
    few = states.shape[1] <= min(_FEW, states.shape[2])
    of = GramFits if few else SharedFits
    return of(states, folds, splits, accuracy)


def _choose_penalties(
    states: torch.Tensor,
    marks: torch.Tensor,
    folds: torch.Tensor,
    splits: Splits,
    penalties: Sequence[float],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the penalty of least inner log-loss, [folds, layers, columns], and convergence."""
    fits = _fits(states, folds, splits, ROUGH)
    own = [folds == fold for fold in range(int(folds.max()) + 1)]
    settled = SETTLED * torch.stack([(~rows).sum() for rows in own])[:, None, None]
    losses = marks.new_full((len(penalties), len(own), len(states), len(marks)), torch.inf)
    going = torch.ones(losses.shape[1:], dtype=torch.bool)
    finished = torch.ones(len(states), dtype=torch.bool)
    first, second = torch.tensor(splits).T
    for number, penalty in enumerate(penalties):
        strength = marks.new_full((1, 1, 1), penalty)
        everywhere = fits.solve(marks, strength, going[first] | going[second])
        each = softplus(everywhere) - marks * everywhere
        loss = torch.zeros_like(losses[number])
        for split, (one, other) in enumerate(splits):
            loss[one] += each[split][..., own[other]].sum(dim=-1)
            loss[other] += each[split][..., own[one]].sum(dim=-1)
        losses[number] = torch.where(going, loss, torch.inf)
        finished &= fits.finished | ~going.any(dim=2).any(dim=0)
        going &= (loss <= PASSED * losses.amin(dim=0)) & (loss > settled)
        if not going.any():
            break
    # argmin keeps the first of equals, which is the strongest penalty.
    return marks.new_tensor(penalties)[losses.argmin(dim=0)], finished


def _layer_chunks(shape: tuple[int, ...], splits: int, columns: int) -> Iterator[slice]:
    rows, layers, width = shape
    a_layer = splits * rows * min(rows, width) * (2 + 2 * columns) * 8
    size = max(1, _CHUNK_BYTES // a_layer)
    for start in range(0, layers, size):
        yield slice(start, start + size)
