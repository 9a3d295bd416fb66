"""Measuring from Python: ``miscible.measure``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from miscible.errors import CheckpointError, IncompatibleModelsError, MiscibleError
from miscible.measure.calibrate import Calibration, Source, prepare
from miscible.measure.calibrated import Calibrated, PairKey, RunPairs, nothing_ran
from miscible.measure.contract import ActivationPair, By, GradientPair, Metric, Needs, select
from miscible.measure.result import Measurement
from miscible.measure.run import evaluate
from miscible.measure.scopes import scopes_of
from miscible.measure.sketch import MOST_DISTANT, take_sketch
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
    calibration: Calibration | Source | None = None,
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
        metrics: names of metrics and categories (see ``miscible.measure.contract.METRICS``), or
            ``all``. Models are run if one needs it. If None, those of weights, and with calibration
            data all but those that need a pass a pair.
        by: ``layer`` or ``role`` for values of each of these too.
        calibration: data over which models are run, or how in full; built-in text for language
            models if None.
        compat: count matrices that no model changes as the code of 2601.22285 does.
        cache: whether decompositions are kept for the next time, or the folder where.
        most_distant: models farther from the base, relative to its norm, are excluded.
        activations, gradients: instead of *calibration*, what the caller's own runs gave of ordered
            pairs, by the models' names (``activation_pairs()`` and ``gradient_pairs()`` of
            `miscible.measure.trace.Trace`).
        failures: by model, why there are none of it (its ``failures``).
        layout: how names of tensors are read where architectures are unusual.

    Raises:
        MiscibleError: if there are fewer than two models, two of one name, an unknown metric, the
            base is damaged, calibration data will not do, or no model can be run and no metric of
            weights was asked for. What is wrong with one model stands in its result.
    """
    given = Calibrated(RunPairs(activations or {}, gradients or {}), failures=failures or {})
    is_given = not (activations is None and gradients is None and failures is None)
    if is_given and calibration is not None:
        raise MiscibleError("models are run by the caller or over 'calibration', not both.")
    needs: list[Needs] = ["weights"]
    needs += ["activations"] if activations or calibration else []
    needs += ["gradients"] if gradients or calibration else []
    chosen = select(metrics, [*needs, "midpoints"] if calibration else needs)
    ran = _to_run(chosen, named=metrics is not None) if not is_given else frozenset()
    if by is not None:
        scopes_of((), by, layout)
    opened = open_models(models)
    origin = open_model(base)
    prepared, unrunnable = None, None
    if ran:
        try:
            prepared = prepare(_calibration(calibration), origin, opened)
        except (CheckpointError, IncompatibleModelsError) as error:
            if all(metric.needs != "weights" for metric in chosen):
                raise
            unrunnable = error  # what the weights say is not lost with it
    sketch = take_sketch(
        origin,
        opened,
        parts=frozenset().union(*(metric.parts for metric in chosen)),
        cache=_cache(cache),
        compat=compat,
        most_distant=most_distant,
    )
    sound = {held.name: held.checkpoint for held in sketch.models if held.is_sound}
    if prepared is not None and len(sound) > 1:
        given = prepared.run(sound, ran, list(sketch.sizes), by=by, layout=layout)
    elif unrunnable is not None:
        given = nothing_ran(sound, unrunnable, None)
    return evaluate(sketch, chosen, calibrated=given, by=by, layout=layout)


def _to_run(chosen: Sequence[Metric], *, named: bool) -> frozenset[Needs]:
    """Return what is wanted beyond weights; a pass a pair only where it is asked for by name."""
    unasked = {"weights"} if named else {"weights", "midpoints"}
    return frozenset(metric.needs for metric in chosen) - unasked


def _calibration(given: Calibration | Source | None) -> Calibration:
    if given is None:
        return Calibration()
    return given if isinstance(given, Calibration) else Calibration(given)


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
