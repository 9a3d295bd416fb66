"""Cross-fitting few rows: Newton's method on the Gram matrices of the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from miscible.probe.fit.fold_moments import Standardised, inside_of
from miscible.probe.fit.gram_kernels import fit_all, scale_rows
from miscible.probe.fit.shared_rows import Accuracy


class _State(NamedTuple):
    """What `fit_all` goes on from, for each layer."""

    coefficients: torch.Tensor
    intercepts: torch.Tensor
    scores: torch.Tensor
    converged: torch.Tensor


class GramFits:
    """Fits of some layers without the rows of some folds, warm-started from penalty to penalty."""

    def __init__(
        self,
        states: torch.Tensor,
        folds: torch.Tensor,
        splits: Sequence[tuple[int, ...]],
        accuracy: Accuracy,
    ) -> None:
        """Standardise on the training rows of each split.

        Args:
            states: float32 [layers, rows, width].
            folds: fold of each row.
            splits: for each split, the folds that are left out.
            accuracy: of the solutions, in float64 whatever it asks for: near the input many
                directions are all but empty, and inner products in float32 would fill them.
        """
        self._accuracy = accuracy
        inside = inside_of(folds, splits)
        self._rows = (~inside).to(torch.uint8).argsort(dim=1, stable=True).numpy()
        sizes = inside.sum(dim=1)
        ends = (sizes * len(folds)).cumsum(dim=0)
        self._sizes, self._starts = sizes.numpy(), (ends - sizes * len(folds)).numpy()
        self._grams = torch.empty(len(states), int(ends[-1]), dtype=torch.float64)
        held = Standardised.of(states, folds, splits, torch.float64)
        inverse = torch.where(held.ratio > 0, 1 / held.ratio, 0.0)
        for grams, rows, scales in zip(self._grams, held.rows, inverse, strict=True):
            self._fill(grams, rows, scales)
        self._state: _State | None = None

    def _fill(self, grams: torch.Tensor, rows: torch.Tensor, inverse: torch.Tensor) -> None:
        scaled = torch.empty_like(rows)
        for split, size in enumerate(self._sizes.tolist()):
            training, start = self._rows[split, :size], self._starts[split]
            gram = grams[start : start + size * len(rows)].view(len(rows), size)
            scale_rows(rows.numpy(), training, inverse[split].numpy(), scaled.numpy())
            torch.mm(rows, scaled[:size].mT, out=gram)

    def solve(
        self, labels: torch.Tensor, penalty: torch.Tensor, wanted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return scores of all rows, [splits, layers, columns, rows].

        Args:
            labels: 0 or 1, [columns, rows].
            penalty: positive, [splits, layers, columns], or a shape that expands to it.
            wanted: which to fit; the others are left as they are, [splits, layers, columns].
        """
        shape = (len(self._sizes), len(self._grams), len(labels))
        if self._state is None:
            problems = self._grams.new_zeros(shape[1], shape[0], shape[2])
            rows = self._grams.new_zeros(*problems.shape, labels.shape[1])
            self._state = _State(rows, problems, rows.clone(), problems.bool())
        strength = penalty.expand(shape)
        if wanted is not None:
            strength = torch.where(wanted, strength, 0.0)
        strength, marks = strength.transpose(0, 1).contiguous(), labels.double().numpy()
        for layer, grams in enumerate(self._grams):
            fit_all(
                grams.numpy(), self._starts, self._rows, self._sizes, marks,
                strength[layer].numpy(), *(part[layer].numpy() for part in self._state),
                self._accuracy.step, self._accuracy.residual,
            )  # fmt: skip
        scores: torch.Tensor = self._state.scores.transpose(0, 1)
        return scores

    @property
    def finished(self) -> torch.Tensor:
        """Whether the last fits of a layer have all converged, [layers]."""
        assert self._state is not None
        finished: torch.Tensor = self._state.converged.flatten(1).all(dim=1)
        return finished
