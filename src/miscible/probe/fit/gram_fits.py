"""Cross-fitting few rows: Newton's method on the Gram matrices of the training rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from miscible.probe.fit.logistic import Design, Solution, solve
from miscible.probe.fit.shared_rows import CONSTANT


class GramFits:
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
