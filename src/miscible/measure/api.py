"""Measuring from Python: ``miscible.measure``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from miscible.errors import MiscibleError
from miscible.measure.contract import ActivationPair, GradientPair, Needs, select
from miscible.measure.result import Measurement
from miscible.measure.run import evaluate
from miscible.measure.scopes import By, scopes_of
from miscible.measure.sketch import MOST_DISTANT, PairKey, take_sketch
from miscible.measure.spectrum_cache import SpectrumCache
from miscible.models.checkpoint import Checkpoint
from miscible.models.layout import DEFAULT, Layout
from miscible.models.ref import open_checkpoint
from miscible.models.state_dict import StateDictCheckpoint

if TYPE_CHECKING:
    import torch

AnyModel: TypeAlias = "str | Path | Checkpoint | torch.nn.Module | Mapping[str, torch.Tensor]"
"""A reference (``org/name``, a folder, ``base+adapter``), or a model in memory."""


def measure(
    base: AnyModel,
    models: Sequence[AnyModel] | Mapping[str, AnyModel],
    *,
    metrics: Sequence[str] | str | None = None,
    by: By | None = None,
    compat: bool = False,
    cache: bool | Path = True,
    most_distant: float = MOST_DISTANT,
    activations: Mapping[PairKey, ActivationPair] | None = None,
    gradients: Mapping[PairKey, GradientPair] | None = None,
    failures: Mapping[str, str] | None = None,
    layout: Layout = DEFAULT,
) -> Measurement:
    """Measure every two of N models that were fine-tuned from one base, reading each once.

    Args:
        base: the model from which all were fine-tuned.
        models: two or more; a mapping names them, otherwise they are called by their references.
        metrics: names of metrics and categories (see ``miscible.measure.contract.METRICS``); all
            that can be had of what is given if None.
        by: ``layer`` or ``role`` for values of each of these too.
        compat: count matrices that no model changes as the code of 2601.22285 does.
        cache: whether decompositions are kept for the next time, or the folder where.
        most_distant: models farther from the base, relative to its norm, are excluded.
        activations, gradients: what calibration data gave of ordered pairs, by the models' names
            (``activation_pairs()`` and ``gradient_pairs()`` of `miscible.measure.trace.Trace`).
        failures: by model, why there are none of it (its ``failures``).
        layout: how names of tensors are read where architectures are unusual.

    Raises:
        MiscibleError: if there are fewer than two models, two of one name, an unknown metric, or
            the base is damaged. What is wrong with one model stands in its result.
    """
    needs: list[Needs] = ["weights"]
    needs += ["activations"] if activations else []
    needs += ["gradients"] if gradients else []
    chosen = select(metrics, needs)
    if by is not None:
        scopes_of((), by, layout)
    opened = open_models(models)
    origin = open_model(base)
    sketch = take_sketch(
        origin,
        opened,
        parts=frozenset().union(*(metric.parts for metric in chosen)),
        cache=_cache(cache),
        compat=compat,
        most_distant=most_distant,
    )
    sketch = replace(
        sketch,
        activations=activations or {},
        gradients=gradients or {},
        failures=failures or {},
    )
    return evaluate(sketch, chosen, by=by, layout=layout)


def open_models(models: Sequence[AnyModel] | Mapping[str, AnyModel]) -> dict[str, Checkpoint]:
    """Open two models or more, by name.

    Raises:
        MiscibleError: if there are fewer, two of one name, or one cannot be opened.
    """
    if isinstance(models, Mapping):
        named = list(models.items())
    else:
        named = [(_name(model, number), model) for number, model in enumerate(models, 1)]
    if len(named) < 2:
        raise MiscibleError(
            f"there is nothing to compare: {len(named)} model was given."
            if named
            else "there is nothing to compare: no model was given.",
            fix="Give two models or more, and their base apart from them.",
        )
    opened: dict[str, Checkpoint] = {}
    for name, model in named:
        if name in opened:
            raise MiscibleError(f"the model {name!r} was given twice.", fix="Give it once.")
        opened[name] = open_model(model, name)
    return opened


def open_model(model: AnyModel, name: str | None = None) -> Checkpoint:
    """Open one model.

    Raises:
        MiscibleError: if it cannot be opened.
    """
    if isinstance(model, str | Path):
        return open_checkpoint(str(model), name=name)
    if _is_checkpoint(model):
        return model
    return StateDictCheckpoint.of(model, name or "base")


def _name(model: AnyModel, number: int) -> str:
    if isinstance(model, str | Path):
        return str(model)
    return model.name if _is_checkpoint(model) else f"model {number}"


def _cache(cache: bool | Path) -> SpectrumCache | None:
    if isinstance(cache, bool):
        return SpectrumCache() if cache else None
    return SpectrumCache(cache)


def _is_checkpoint(model: object) -> TypeGuard[Checkpoint]:
    return all(hasattr(model, name) for name in ("tensors", "files", "extent", "read"))
