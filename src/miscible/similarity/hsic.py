"""Unbiased HSIC of all pairs of two models' layers, and what it is without each group of reads.

HSIC of the Gram matrices K = XXᵀ and L = YYᵀ of two layers' states of the same n reads is estimated
without bias by Song et al. (JMLR 13, 2012, equation 5). That estimator sees only the off-diagonal
entries, and of them only what is left when any a(i) + a(j) is taken away. Of all equivalent
matrices we use the one whose diagonal and row sums are 0 ("U-centred": Székely and Rizzo, arXiv
1310.2926, definition 2), because with it the estimate of the whole sample is
Σ A_ij B_ij / (n (n - 3)), and leaving reads out has a closed form. For centred states it is

    A_ij = k_ij - u_i - u_j,  u_i = (tr K / (2 (n - 1)) - k_ii) / (n - 2),  i ≠ j.

The factor n (n - 3) cancels in CKA and is left out here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from miscible.similarity.estimate import Array, Groups, Reasons, layer_flaws

States: TypeAlias = npt.NDArray[np.floating]

MIN_READS = 4
"""With fewer the unbiased HSIC is not defined."""

BLOCK_BYTES = 2**28
"""Size of the Gram rows that are held at once (more if the rows of one group need it)."""

_CONSTANT = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class CentredLayers:
    """The usable layers of a model, read one at a time in float64.

    Attributes:
        states: [reads, layers, width], as given.
        order: reads in the order of their groups.
        flaws: why a layer is not usable, [layers].
        kept: indices of those that are.
        means: [kept, width].
        lengths: root mean squared norm of the centred states, [kept].
        norms: squared norms of the states as `read` gives them, [kept, reads].
    """

    states: States
    order: npt.NDArray[np.intp]
    flaws: Reasons
    kept: npt.NDArray[np.intp]
    means: Array
    lengths: Array
    norms: Array

    @classmethod
    def of(cls, states: States, groups: Groups) -> CentredLayers:
        """Examine *states*; raises `ValueError` unless they have three axes."""
        flaws = layer_flaws(states, MIN_READS).astype(object)
        means, lengths, norms = [], [], []
        for layer in np.flatnonzero(flaws == ""):
            plain = states[groups.order, layer].astype(np.float64)
            mean = plain.mean(axis=0)
            squares = np.square(plain - mean).sum(axis=1)
            length = np.sqrt(squares.mean())
            if length <= _CONSTANT * np.sqrt(np.square(plain).sum(axis=1).mean()):
                flaws[layer] = "the states are the same for all reads"
                continue
            means.append(mean)
            lengths.append(length)
            norms.append(squares / length**2)
        reads, _, width = states.shape
        return cls(
            states,
            groups.order,
            flaws.astype(np.str_),
            np.flatnonzero(flaws == ""),
            np.asarray(means, dtype=np.float64).reshape(len(means), width),
            np.asarray(lengths, dtype=np.float64),
            np.asarray(norms, dtype=np.float64).reshape(len(norms), reads),
        )

    def read(self, place: int) -> Array:
        """Return the centred states of kept layer *place*, scaled to a mean squared norm of 1."""
        plain = self.states[self.order, self.kept[place]].astype(np.float64)
        scaled: Array = (plain - self.means[place]) / self.lengths[place]
        return scaled

    def vectors(self, place: int) -> Features:
        """Return vectors whose products are the entries of a layer's U-centred Gram matrix."""
        states, norms = self.read(place), self.norms[place]
        reads, width = states.shape
        left = np.ones((reads, width + 2))
        left[:, :-2] = states
        left[:, -1] = (norms.sum() / (2 * (reads - 1)) - norms) / (reads - 2)
        right = left.copy()
        right[:, -2] = -left[:, -1]
        right[:, -1] = -1
        return Features(left, right)

    def rows(self, start: int, stop: int) -> Array:
        """Return those rows of the U-centred Gram matrices, [kept, stop - start, reads]."""
        rows = np.empty((len(self.kept), stop - start, len(self.order)))
        for place, block in enumerate(rows):
            left, right = self.vectors(place)
            np.matmul(left[start:stop], right.T, out=block)
        diagonal = np.arange(stop - start)
        rows[:, diagonal, diagonal + start] = 0
        return rows


class Features(NamedTuple):
    """Vectors f (*left*) and g (*right*) with A_ij = f_i · g_j for i ≠ j.

    They are (x, 1, u) and (x, -u, -1), [reads, width + 2].
    """

    left: Array
    right: Array


class Sums(NamedTuple):
    """A_ij B_ij summed, a row a group of reads.

    Attributes:
        cross: of the first model's layers with the second's, [groups, first, second].
        first, second: of the layers of one model with themselves, [groups, layers].
    """

    cross: Array
    first: Array
    second: Array

    @classmethod
    def zeros(cls, groups: int, first: int, second: int) -> Sums:
        """Return arrays to be filled."""
        shapes = ((groups, first, second), (groups, first), (groups, second))
        return cls(*map(np.zeros, shapes))

    def add(self, group: int, first: Array, second: Array, sign: int = 1) -> None:
        """Add the products of *first* and *second*, each [layers, ...], to those of a group."""
        a, b = (each.reshape(len(each), -1) for each in (first, second))
        self.cross[group] += sign * (a @ b.T)
        self.first[group] += sign * _dots(a, a)
        self.second[group] += sign * _dots(b, b)


class Hsic(NamedTuple):
    """Unbiased HSIC times n (n - 3), as sums over groups.

    Attributes:
        part: what the reads of each group are the rows of; their sum is the whole sample's.
        taken: by how much the whole is more than the rest without the group, which is centred
            anew; NaN if fewer than `MIN_READS` reads are left.
    """

    part: Sums
    taken: Sums


def through_grams(left: CentredLayers, right: CentredLayers, groups: Groups) -> Hsic:
    """Sum over rows of the Gram matrices, a block of groups at a time."""
    counts = (len(groups.sizes), len(left.kept), len(right.kept))
    found = Hsic(Sums.zeros(*counts), Sums.zeros(*counts))
    reads, edges = len(groups.order), groups.edges
    budget = BLOCK_BYTES // (8 * reads * (counts[1] + counts[2]))
    for block in _blocks(edges, budget):
        first, last = int(edges[block.start]), int(edges[block.stop])
        every, other = left.rows(first, last), right.rows(first, last)
        for group in block:
            own = slice(int(edges[group]), int(edges[group + 1]))
            here = slice(own.start - first, own.stop - first)
            a, b = every[:, here], other[:, here]
            found.part.add(group, a, b)
            found.taken.add(group, _outside(a, own), _outside(b, own))
            _leave_out(found, group, a[:, :, own], b[:, :, own], reads)
    return found


def through_features(left: CentredLayers, right: CentredLayers, groups: Groups) -> Hsic:
    """Sum over products of features, a pair of layers at a time."""
    counts = (len(groups.sizes), len(left.kept), len(right.kept))
    part, taken = found = Hsic(Sums.zeros(*counts), Sums.zeros(*counts))
    edges = groups.edges
    one = [left.vectors(place) for place in range(counts[1])]
    two = [right.vectors(place) for place in range(counts[2])]
    for i, a in enumerate(one):
        part.first[:, i], taken.first[:, i] = _products(a, a, edges)
        for j, b in enumerate(two):
            part.cross[:, i, j], taken.cross[:, i, j] = _products(a, b, edges)
    for j, b in enumerate(two):
        part.second[:, j], taken.second[:, j] = _products(b, b, edges)
    for group, (start, stop) in enumerate(pairwise(edges.tolist())):
        inner, other = (
            np.stack([each.left[start:stop] @ each.right[start:stop].T for each in every])
            for every in (one, two)
        )
        taken.add(group, inner.sum(axis=1), other.sum(axis=1), sign=-1)
        for each in (inner, other):
            each[:, range(stop - start), range(stop - start)] = 0
        _leave_out(found, group, inner, other, len(groups.order))
    return found


def _outside(rows: Array, own: slice) -> Array:
    """Sum a group's *rows* [layers, size, reads], and put 0 in its own columns."""
    if rows.shape[1] == 1:
        return rows  # its one own entry is 0 already
    sums: Array = rows.sum(axis=1)
    sums[:, own] = 0
    return sums


def _products(
    first: Features, second: Features, edges: npt.NDArray[np.intp]
) -> tuple[Array, Array]:
    """Return by group the sum over its rows, and that over all columns of its summed rows.

    The second still has the columns of the group itself, with the features' own diagonal.
    """
    products = first.right.T @ second.right
    a, b = first.left, second.left
    diagonals = _dots(a, first.right) * _dots(b, second.right)
    rows = np.add.reduceat(_dots(a @ products, b) - diagonals, edges[:-1])
    if len(edges) - 1 < len(a):
        a, b = (np.add.reduceat(each, edges[:-1], axis=0) for each in (a, b))
    return rows, _dots(a @ products, b)


def _dots(first: Array, second: Array) -> Array:
    dots: Array = np.einsum("ij,ij->i", first, second)
    return dots


def _leave_out(found: Hsic, group: int, first: Array, second: Array, reads: int) -> None:
    """Finish what leaving a group out takes.

    This is equation 5 of Song et al. for the remaining m reads, whose row sums are no longer 0 but
    minus those over the group.

    Args:
        found: *taken* has Σ (Σ A_ij)(Σ B_ij) over j outside, inner sums over i in the group.
        group: its index.
        first, second: the group's own entries of both models' matrices, [layers, size, size].
        reads: of the whole sample.
    """
    size = first.shape[1]
    rest = reads - size
    if rest < MIN_READS:
        for taken in found.taken:
            taken[group] = np.nan
        return
    inside, total = (Sums.zeros(1, len(first), len(second)) for _ in range(2))
    if size > 1:
        inside.add(0, first, second)
        total.add(0, first.sum(axis=(1, 2)), second.sum(axis=(1, 2)))
    for own, taken, shared, product in zip(*found, inside, total, strict=True):
        centring = 2 * taken[group] / (rest - 2) - product[0] / ((rest - 1) * (rest - 2))
        taken[group] = 2 * own[group] - shared[0] + centring


def _blocks(edges: npt.NDArray[np.intp], rows: int) -> Iterator[range]:
    """Yield runs of groups that have at most so many reads together, at least one group."""
    start = 0
    while start < len(edges) - 1:
        stop = max(start + 1, int(np.searchsorted(edges, edges[start] + rows, "right")) - 1)
        yield range(start, stop)
        start = stop
