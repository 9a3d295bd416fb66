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

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import softplus

from miscible.errors import DatasetError
from miscible.probe.fit.logistic import Design, Solution, solve

PENALTIES = (100.0, 10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)
"""Strongest first. In units of the number of features: the penalty on w is this times d, so that
one grid fits every width (scikit-learn's C is 1 / (penalty d))."""

_CHUNK_BYTES = 2**25
_SMALL = 1000
"""With fewer rows, thread barriers cost more than threads gain (27-fold on a busy machine)."""

CONSTANT = 1e-6
"""A feature whose deviation is below this fraction of its mean is rounding noise of float32."""


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
        penalties: grid to choose from (see `PENALTIES`), strongest first.

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
            fits = _Fits(states, where, outer)
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


def _choose_penalties(
    states: torch.Tensor,
    marks: torch.Tensor,
    folds: torch.Tensor,
    splits: list[tuple[int, int]],
    penalties: Sequence[float],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the penalty of least inner log-loss, [folds, layers, columns], and convergence."""
    fits = _Fits(states, folds, splits)
    finished = torch.ones(len(states), dtype=torch.bool)
    loss = marks.new_zeros(int(folds.max()) + 1, len(penalties), len(states), len(marks))
    for number, penalty in enumerate(penalties):
        everywhere = fits.solve(marks, marks.new_full((1, 1, 1), penalty))
        losses = softplus(everywhere) - marks * everywhere
        for split, (first, second) in enumerate(splits):
            loss[first, number] += losses[split][..., folds == second].sum(dim=-1)
            loss[second, number] += losses[split][..., folds == first].sum(dim=-1)
        finished &= fits.finished
    # argmin keeps the first of equals, which is the strongest penalty.
    return marks.new_tensor(penalties)[loss.argmin(dim=1)], finished


class _Fits:
    """Fits of some layers without the rows of some folds, warm-started from penalty to penalty."""

    def __init__(
        self, states: torch.Tensor, folds: torch.Tensor, splits: Sequence[tuple[int, ...]]
    ) -> None:
        """Standardise on the training rows of each split.

        Args:
            states: float32 [layers, rows, width].
            folds: fold of each row.
            splits: for each split, the folds that are left out.
        """
        self._shape = (len(splits), len(states))
        train = [_rows_without(folds, left_out) for left_out in splits]
        longest = max(len(rows) for rows in train)
        gram = longest <= states.shape[-1]
        everything, design, weights = [], [], []
        for rows in train:
            standard = _standardise(states, rows)
            features = standard @ standard[:, rows].mT if gram else standard
            filler = longest - len(rows)
            if gram:
                features = torch.nn.functional.pad(features, (0, filler))
            padded = torch.cat([rows, rows[:1].expand(filler)])
            weight = torch.ones(longest, dtype=torch.float64)
            weight[len(rows) :] = 0
            everything.append(features)
            design.append(padded)
            weights.append(weight.expand(len(states), -1))
        self._rows = torch.cat(everything)
        self._train = torch.stack(design).repeat_interleave(len(states), dim=0)
        batch = torch.arange(len(self._rows)).unsqueeze(1)
        self._design = Design(self._rows[batch, self._train], gram, torch.cat(weights))
        self._last: Solution | None = None

    def solve(self, labels: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
        """Return scores of all rows, [splits, layers, columns, rows].

        Args:
            labels: [columns, rows].
            penalty: [splits, layers, columns], or a shape that expands to it.
        """
        columns = len(labels)
        penalty = penalty.expand(*self._shape, columns).reshape(-1, columns)
        marks = labels[:, self._train].transpose(0, 1)
        self._last = solve(self._design, marks, penalty, self._last)
        return self._last.at(self._rows).reshape(*self._shape, columns, -1)

    @property
    def finished(self) -> torch.Tensor:
        """Whether the last fits of a layer have all converged, [layers]."""
        assert self._last is not None
        return self._last.converged.all(dim=1).reshape(self._shape).all(dim=0)


def _rows_without(folds: torch.Tensor, left_out: tuple[int, ...]) -> torch.Tensor:
    return torch.isin(folds, torch.tensor(left_out), invert=True).nonzero().squeeze(1)


def _standardise(states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return float64 features with mean 0 and variance 1 / width over *rows*."""
    wide = states.double()
    deviation, mean = torch.std_mean(wide[:, rows], dim=1, correction=0, keepdim=True)
    constant = deviation <= CONSTANT * mean.abs()
    factor = torch.where(constant, 0.0, 1 / deviation) / states.shape[-1] ** 0.5
    standard: torch.Tensor = (wide - mean) * factor
    return standard


def _layer_chunks(shape: tuple[int, ...], splits: int, columns: int) -> Iterator[slice]:
    rows, layers, width = shape
    a_layer = splits * rows * min(rows, width) * (2 + 2 * columns) * 8
    size = max(1, _CHUNK_BYTES // a_layer)
    for start in range(0, layers, size):
        yield slice(start, start + size)
