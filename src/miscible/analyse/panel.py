"""Items of one metric as an array of models x layers x items, on which everything is paired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from miscible.analyse.tables import Cell, StudyTables

if TYPE_CHECKING:
    from collections.abc import Mapping

Floats: TypeAlias = NDArray[np.float64]

LayerChoice: TypeAlias = Literal["each", "last", "best", "mean"]
"""Which layer stands for all: ``each`` keeps all; ``last``; ``best`` is the layer at which the
mean over all models is best, the same for every model, so that no model gains by choosing; ``mean``
is the mean over layers."""


@dataclass(frozen=True)
class Panel:
    """Item values of one metric of one data set.

    Attributes:
        cell: what was measured.
        higher_is_better: direction of the metric.
        models: names, in the order of the study.
        layers: layer indices, or (None,) where the metric has none.
        clusters: (items,) code of each item's cluster, dense from 0.
        weights: (items,) weight of each item.
        values: (models, layers, items), NaN where a model lacks an item.
    """

    cell: Cell
    higher_is_better: bool
    models: tuple[str, ...]
    layers: tuple[int | None, ...]
    clusters: NDArray[np.intp]
    weights: Floats
    values: Floats

    @property
    def sign(self) -> float:
        """1 if higher is better, else -1."""
        return 1.0 if self.higher_is_better else -1.0

    def row(self, model: str) -> Floats:
        """Return the (layers, items) values of a model, all NaN if it has none."""
        if model in self.models:
            held: Floats = self.values[self.models.index(model)]
            return held
        return np.full(self.values.shape[1:], np.nan)

    def reduced(self, choice: LayerChoice) -> Panel:
        """Return the panel with its layers reduced to one; as it is if there are none."""
        if choice == "each" or self.layers == (None,):
            return self
        if choice == "mean":
            values = nanmean(self.values, axis=1)[:, None]
            return replace(self, layers=(None,), values=values)
        last = len(self.layers) - 1
        held = last if choice == "last" else _best(self)
        return replace(self, layers=(self.layers[held],), values=self.values[:, [held]])


def panels(tables: StudyTables, domain: str | None = None) -> Iterator[Panel]:
    """Yield a panel for everything that has items, in alphabetical order; made once a study.

    The weight of an item is a property of the item (its bytes): where models disagree about it,
    the mean is used, because a paired difference needs one weight. An item that one model has
    twice counts as the mean of the two.
    """
    if tables not in _held:
        _held[tables] = tuple(_panels(tables))
    return iter([panel for panel in _held[tables] if domain in (None, panel.cell.domain)])


_held: WeakKeyDictionary[StudyTables, tuple[Panel, ...]] = WeakKeyDictionary()


def _panels(tables: StudyTables) -> Iterator[Panel]:
    items = tables.items
    if items.empty:
        return
    order = {str(name): i for i, name in enumerate(tables.models["model"])}
    known = items[items["model"].isin(list(order))]
    for key, held in known.groupby(["domain", "dataset", "metric"], sort=True, observed=True):
        cell = Cell(*(str(part) for part in key))
        yield _panel(cell, held, order, tables.higher_is_better.get(cell, True))


def _panel(cell: Cell, rows: pd.DataFrame, order: Mapping[str, int], up: bool) -> Panel:
    model, names = pd.factorize(rows["model"])
    ranked = sorted(range(len(names)), key=lambda i: order[str(names[i])])
    model = np.argsort(np.asarray(ranked))[model]
    layer, layers = pd.factorize(rows["layer"].astype("Float64").fillna(-1.0), sort=True)
    item, _ = pd.factorize(rows["item"], sort=True)
    shape = (len(names), len(layers), int(item.max()) + 1)

    flat = np.ravel_multi_index((model, layer, item), shape)
    value = rows["value"].to_numpy(dtype=float)
    present = np.isfinite(value)
    count = np.bincount(flat[present], minlength=int(np.prod(shape)))
    total = np.bincount(flat[present], value[present], minlength=int(np.prod(shape)))
    values = np.full(total.shape, np.nan)
    np.divide(total, count, out=values, where=count > 0)

    first = pd.Series(item).drop_duplicates().index
    codes, _ = pd.factorize(rows["cluster"].iloc[first].astype(str), sort=True)
    clusters = np.empty(shape[2], dtype=np.intp)
    clusters[item[first]] = codes
    weights = np.bincount(item, rows["weight"].to_numpy(dtype=float)) / np.bincount(item)
    return Panel(
        cell=cell,
        higher_is_better=up,
        models=tuple(str(names[i]) for i in ranked),
        layers=tuple(None if index < 0 else int(index) for index in layers),
        clusters=clusters,
        weights=weights,
        values=values.reshape(shape),
    )


def nanmean(values: Floats, axis: int) -> Floats:
    """Return the mean over the finite values of an axis; NaN, without a warning, if none is."""
    held = np.isfinite(values)
    count = held.sum(axis=axis)
    total = np.where(held, values, 0.0).sum(axis=axis)
    mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _best(panel: Panel) -> int:
    by_model = nanmean(panel.values, axis=2)
    means = np.where(np.isfinite(by_model), panel.sign * by_model, -np.inf).mean(axis=0)
    return int(np.argmax(means))
