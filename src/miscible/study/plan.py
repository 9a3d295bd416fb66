"""The plan of a study: which models, and which steps with which content keys.

A step's key depends on everything that its result depends on: the weights (fingerprints), the
task or data set by content, the options, the numerics, and the versions of the libraries that
compute it. Changing one merge therefore changes the keys of that merge's steps and of no others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from miscible.evaluate.options import EvaluationOptions
from miscible.keys import content_key
from miscible.merge.opening import open_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.ref import open_checkpoint
from miscible.models.runtime import config_differences, runtime_key
from miscible.models.tokenizer import check_same_vocabulary
from miscible.study.mergeability import SUBJECT, mergeability_key
from miscible.study.merges import PlannedMerge, plan_merges
from miscible.study.predictions import SUBJECT as EXPECTED
from miscible.study.predictions import prediction_key
from miscible.study.spec import Behaviour, StudySpec

if TYPE_CHECKING:
    from miscible.probe.dataset import ProbeDataset

Kind = Literal["dose", "behaviour", "internals", "similarity", "mergeability", "prediction"]
LIBRARIES = ("torch", "transformers", "tokenizers", "lm_eval", "numpy")
STEP_VERSION = 2
"""Part of every key; raised when the same inputs would give other rows."""


@dataclass(frozen=True, slots=True)
class Step:
    """A unit of work whose rows are stored together.

    Attributes:
        key: content key.
        kind: what is measured.
        model: name of the model within the study.
        subject: task or data set; empty for doses.
    """

    key: str
    kind: Kind
    model: str
    subject: str = ""

    def __str__(self) -> str:
        return " · ".join(part for part in (self.model, self.kind, self.subject) if part)


@dataclass(frozen=True)
class PlannedModel:
    """A model of a study with its steps.

    Attributes:
        name, role, family, method, dose, reference: as the report shows them.
        checkpoint: the weights; of a matched merge with lambda still 1.
        merge: the planned merge, None for base and parents.
        steps: what is measured of it.
    """

    name: str
    role: Literal["base", "parent", "merge"]
    family: str
    method: str
    dose: float
    reference: str
    checkpoint: Checkpoint
    merge: PlannedMerge | None = None
    steps: tuple[Step, ...] = field(default=())


@dataclass(frozen=True)
class Plan:
    """All models of a study, base and parents first.

    Attributes:
        models, datasets: what is measured, and with what.
        warnings: sentences on what may make the study misleading.
    """

    models: tuple[PlannedModel, ...]
    datasets: tuple[ProbeDataset, ...]
    warnings: tuple[str, ...] = ()

    @property
    def steps(self) -> list[Step]:
        """Every step, in the order in which they run."""
        return [step for model in self.models for step in model.steps]

    @property
    def base(self) -> Checkpoint:
        """The base model."""
        return self.models[0].checkpoint

    @property
    def parents(self) -> dict[str, Checkpoint]:
        """The parents by name."""
        return {model.name: model.checkpoint for model in self.models if model.role == "parent"}


def make_plan(spec: StudySpec, folder: Path) -> Plan:
    """Plan a study: opens every model by its headers, nothing is computed.

    Args:
        spec: the study.
        folder: of the study file; local paths are relative to it.

    Raises:
        MiscibleError: whatever is wrong with models, recipes, tasks' files or data sets.
    """
    opened: dict[str, Checkpoint] = {}

    def open_once(reference: str, name: str) -> Checkpoint:
        if reference not in opened:
            opened[reference] = open_checkpoint(reference, relative_to=folder, name=name)
        return opened[reference]

    base = open_once(spec.base, "base")
    models = [PlannedModel("base", "base", "base", "", math.nan, spec.base, base)]
    for name, reference in spec.parents.items():
        parent = open_once(reference, name)
        models.append(PlannedModel(name, "parent", name, "", math.nan, reference, parent))
    check_same_vocabulary([model.checkpoint for model in models])
    for merge in plan_merges(spec, folder):
        parts = {r: open_once(r, r) for r in merge.recipe.references()}
        held = open_recipe(merge.recipe, folder, given=parts)
        checkpoint = VirtualCheckpoint(
            merge.recipe, held.models, name=merge.name, seed=spec.seed, device=spec.device,
            opened=held,
        )  # fmt: skip
        models.append(
            PlannedModel(
                merge.name, "merge", merge.family, merge.method, merge.dose,
                merge.recipe.to_yaml(), checkpoint, merge,
            )
        )  # fmt: skip
    datasets = _datasets(spec, folder)
    keys = _MeasurementKeys(spec, folder, datasets)
    parents = {m.name: m.checkpoint.fingerprint for m in models if m.role == "parent"}
    planned = [_with_steps(model, keys, base, parents) for model in models]
    return Plan(tuple(planned), datasets, tuple(_warnings(models)))


def behaviour_options(spec: StudySpec, folder: Path, task: str) -> EvaluationOptions:
    """Return the options with which one task of a study is evaluated."""
    behaviour = spec.behaviour
    assert behaviour is not None
    return EvaluationOptions(
        tasks=(task,),
        data={name: _located(source, folder) for name, source in _data_of(behaviour, task)},
        include=tuple(str(folder / Path(path).expanduser()) for path in behaviour.include),
        limit=behaviour.limit_of(task),
        num_fewshot=behaviour.num_fewshot,
        apply_chat_template=behaviour.apply_chat_template,
        batch_tokens=behaviour.batch_tokens,
        # A study with seed 0 draws the few-shot examples of a plain lm_eval run.
        seed=EvaluationOptions.seed + spec.seed,
    )


@lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that results depend on."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


class _MeasurementKeys:
    """Keys of the measurements, before the model enters."""

    def __init__(self, spec: StudySpec, folder: Path, datasets: Sequence[ProbeDataset]) -> None:
        self.common = {
            "version": STEP_VERSION, "libraries": library_versions(), "seed": spec.seed,
            "dtype": spec.dtype, "device": spec.device.split(":", 1)[0],
        }  # fmt: skip
        tasks = spec.behaviour.tasks if spec.behaviour else []
        self.behaviour = {task: behaviour_options(spec, folder, task).key() for task in tasks}
        asked = spec.internals.measured if spec.internals else {}
        self.internals = {d.name: content_key(data=d.key, asked=asked) for d in datasets}
        self.mergeability = mergeability_key(spec.metrics, folder) if spec.metrics else None
        self.prediction = prediction_key(spec.predict, folder) if spec.predict else None
        self.similarity = None
        if spec.internals and spec.internals.similarity:
            self.similarity = content_key(
                data=[d.key for d in datasets], layers=spec.internals.layers,
                texts=spec.internals.similarity,
            )  # fmt: skip

    def key(self, kind: Kind, model: str, subject: str, content: object) -> str:
        return content_key(
            kind=kind, model=model, subject=subject, content=content, common=self.common
        )


def _with_steps(
    model: PlannedModel, keys: _MeasurementKeys, base: Checkpoint, parents: Mapping[str, str]
) -> PlannedModel:
    weights = content_key(
        weights=model.checkpoint.fingerprint, runtime=runtime_key(model.checkpoint)
    )
    steps: list[Step] = []
    if model.merge is not None:
        if model.merge.matched:
            weights = content_key(weights=weights, matched=parents, base=base.fingerprint)
        content = {"base": base.fingerprint, "parents": dict(parents)}
        steps.append(Step(keys.key("dose", weights, "", content), "dose", model.name))
    measured: tuple[tuple[Kind, Mapping[str, str]], ...] = (
        ("behaviour", keys.behaviour), ("internals", keys.internals),
    )  # fmt: skip
    for kind, subjects in measured:
        for subject, content_of in subjects.items():
            key = keys.key(kind, weights, subject, content_of)
            steps.append(Step(key, kind, model.name, subject))
    if keys.similarity is not None:
        others = {"base": base.fingerprint, "parents": dict(parents), "asked": keys.similarity}
        key = keys.key("similarity", weights, "", others)
        steps.append(Step(key, "similarity", model.name))
    if keys.mergeability is not None and model.role == "base":
        compared = {"parents": dict(parents), "asked": keys.mergeability}
        key = keys.key("mergeability", weights, SUBJECT, compared)
        steps.append(Step(key, "mergeability", model.name, SUBJECT))
    if keys.prediction is not None and model.role == "base":
        compared = {"parents": dict(parents), "asked": keys.prediction}
        key = keys.key("prediction", weights, EXPECTED, compared)
        steps.append(Step(key, "prediction", model.name, EXPECTED))
    return PlannedModel(
        model.name, model.role, model.family, model.method, model.dose, model.reference,
        model.checkpoint, model.merge, tuple(steps),
    )  # fmt: skip


def _datasets(spec: StudySpec, folder: Path) -> tuple[ProbeDataset, ...]:
    if spec.internals is None:
        return ()
    from miscible.probe.contract import SourceOptions, open_datasets

    options = SourceOptions(limit=spec.internals.limit, seed=spec.seed, relative_to=folder)
    return open_datasets(spec.internals.datasets, options)


def _warnings(models: Sequence[PlannedModel]) -> Iterator[str]:
    measured = [model for model in models if model.role != "merge"]
    base = measured[0].checkpoint
    for parent in measured[1:]:
        if parent.checkpoint.fingerprint == base.fingerprint:
            yield (
                f"{parent.name} has the weights of the base: its task vector is zero, and methods "
                "on task vectors scale the other parents alone."
            )
        for key, (wanted, found) in config_differences([base, parent.checkpoint]).items():
            yield (
                f"{parent.name} has {key} {found!r} in its config, the base has {wanted!r}: each "
                "is measured under its own, a merge under that of its base or first model."
            )


def _data_of(behaviour: Behaviour, task: str) -> list[tuple[str, str | dict[str, str]]]:
    # Data under a group's name belongs to its tasks; data of other tasks does not enter the key.
    others = set(behaviour.tasks) - {task}
    return [(name, source) for name, source in behaviour.data.items() if name not in others]


def _located(source: str | dict[str, str], folder: Path) -> str | dict[str, str]:
    if isinstance(source, dict):
        return {split: str(folder / Path(path).expanduser()) for split, path in source.items()}
    return str(folder / Path(source).expanduser())
