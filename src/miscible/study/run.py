"""Running a plan: one model in memory, weights swapped, every step stored as soon as it is done."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from miscible import __version__
from miscible.errors import MiscibleError, StoreError
from miscible.merge.dose import measure_doses, scaled
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.live import LiveModel
from miscible.models.runtime import runtime_key
from miscible.progress import task
from miscible.records import DoseRow, Provenance, Row
from miscible.study.estimate import Estimator
from miscible.study.mergeability import measure_mergeability
from miscible.study.plan import Plan, PlannedModel, Step, behaviour_options, library_versions
from miscible.study.predictions import predict_merges
from miscible.study.spec import StudySpec
from miscible.study.store import Store

if TYPE_CHECKING:
    from miscible.evaluate.contract import Evaluator
    from miscible.study.internals import Comparisons, StudyProbes

SMALLEST_DOSE = 1e-3
"""Total effective dose below which a merge cannot be scaled up to dose 1."""


@dataclass
class RunSummary:
    """What a run did.

    Attributes:
        done, reused: number of steps computed now, and found finished.
        failed: the steps that have no result, with the reason.
    """

    done: int = 0
    reused: int = 0
    failed: list[tuple[Step, str]] = field(default_factory=list)


def run_plan(spec: StudySpec, folder: Path, plan: Plan, store: Store) -> RunSummary:
    """Compute every step that is not in the store yet.

    A step that fails is recorded and the others go on; only a store that cannot be written stops
    the run.

    Raises:
        StoreError: if another process runs this study, or the disk is full.
        UnknownNameError, DatasetError: for a task that does not exist or cannot be read.
    """
    with store.locked():
        return _Run(spec, folder, plan, store).run()


class _Run:
    def __init__(self, spec: StudySpec, folder: Path, plan: Plan, store: Store) -> None:
        self.spec, self.folder, self.plan, self.store = spec, folder, plan, store
        self.summary = RunSummary()
        self.evaluators = prepare_tasks(spec, folder, plan, store)
        self.estimator = Estimator(spec, plan, store, self.evaluators)
        self.live: LiveModel | None = None
        self.runtime = ""
        self.internals: StudyProbes | None = None
        self.comparisons: Comparisons | None = None

    def run(self) -> RunSummary:
        pending = [step for step in self.plan.steps if not self.store.has(step.key)]
        self.summary.reused = len(self.plan.steps) - len(pending)
        # Shares are fixed beforehand, so that the bar is full exactly when the last step is done.
        shares = {step.key: self.estimator.seconds(step) for step in pending}
        with task(f"study {self.spec.name}", sum(shares.values())) as advance:
            if any(step.kind != "dose" for step in pending):
                self._holding(self.plan.models[0])  # a base that cannot be loaded ends the run
            for model in self.plan.models:
                for step in model.steps:
                    if not self.store.has(step.key):
                        self._attempt(step, model)
                        advance(shares[step.key])
        return self.summary

    def _attempt(self, step: Step, model: PlannedModel) -> None:
        try:
            self._compute(step, model)
            self.summary.done += 1
        except StoreError:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, MiscibleError) else traceback.format_exc()
            self.store.record_failure(step.key, step.model, str(step), reason)
            self.summary.failed.append((step, reason.strip().splitlines()[-1]))

    def _compute(self, step: Step, model: PlannedModel) -> None:
        start = time.perf_counter()
        about: dict[str, object] = {"step": str(step), "kind": step.kind, "model": step.model}
        rows: list[Row]
        if step.kind == "dose":
            doses, factor = self._doses(model)
            about["lambda"] = factor
            rows, fingerprint = [*doses], self._weights(model, factor).fingerprint
        elif step.kind == "similarity":
            rows, fingerprint = self._similarity(model)
        elif step.kind == "mergeability":
            self.live = None  # parents are run in a model of their own
            rows = measure_mergeability(self.spec, self.folder, self.plan)
            fingerprint = model.checkpoint.fingerprint
        elif step.kind == "prediction":
            self.live = None
            rows = predict_merges(self.spec, self.folder, self.plan)
            fingerprint = model.checkpoint.fingerprint
        else:
            live = self._holding(model)
            fingerprint = live.fingerprint
            start = time.perf_counter()  # swapping weights belongs to the model, not to the step
            measure = self._behaviour if step.kind == "behaviour" else self._internals
            rows = measure(live, step)
        seconds = time.perf_counter() - start
        self.store.write(self._provenance(step, fingerprint, seconds), rows, about)

    def _doses(self, model: PlannedModel) -> tuple[list[DoseRow], float]:
        rows = measure_doses(model.checkpoint, self.plan.base, self.plan.parents)
        if model.merge is None or not model.merge.matched:
            return rows, 1.0
        total = sum(row.coefficient for row in rows)
        if total < SMALLEST_DOSE:
            raise MiscibleError(
                f"its effective doses add up to {total:.2g}, so no lambda brings them to 1.",
                where=model.name,
                fix="Set 'match: false', or give lambda under 'parameters'.",
            )
        return scaled(rows, 1.0 / total), 1.0 / total

    def _weights(self, model: PlannedModel, factor: float | None = None) -> Checkpoint:
        """Return what the model's measurements are made of: a matched merge with its lambda."""
        if factor is None:
            factor = matched_factor(self.store, model)
        return with_lambda(model, factor)

    def _holding(self, model: PlannedModel) -> LiveModel:
        weights = self._weights(model)
        runtime = runtime_key(weights)
        if self.live is None or self.runtime != runtime:
            self.live = None  # its memory is needed for the next
            with task(f"load {model.name}"):
                self.live = LiveModel.load(weights, dtype=self.spec.dtype, device=self.spec.device)
            self.runtime = runtime
            self.internals = None
        elif self.live.fingerprint != weights.fingerprint:
            with task(f"swap in {model.name}"):
                self.live.swap(weights)
        self.live.name = model.name
        return self.live

    def _behaviour(self, live: LiveModel, step: Step) -> list[Row]:
        found = self.evaluators[step.subject].evaluate(live)
        return [*found.scores, *found.items]

    def _internals(self, live: LiveModel, step: Step) -> list[Row]:
        return self._prepared(live).measure(live, step.subject)

    def _similarity(self, model: PlannedModel) -> tuple[list[Row], str]:
        from miscible.study.internals import Comparisons

        if self.comparisons is None:
            self.comparisons = Comparisons(
                self.spec, self.folder, self.plan.datasets, self._holding(model)
            )
        references = [m for m in self.plan.models if m.role != "merge" and m.name != model.name]
        for reference in references:
            if not self.comparisons.remembers(reference.checkpoint.fingerprint):
                self.comparisons.remember(self._holding(reference))
        live = self._holding(model)
        others = [(each.name, each.checkpoint.fingerprint) for each in references]
        return self.comparisons.compare(live, others), live.fingerprint

    def _prepared(self, live: LiveModel) -> StudyProbes:
        from miscible.study.internals import StudyProbes

        if self.internals is None:
            # Of all data sets, finished or not: batches, and with them the last digits, are the
            # same whenever the study is stopped.
            self.internals = StudyProbes(self.spec, self.folder, self.plan.datasets, live)
        return self.internals

    def _provenance(self, step: Step, fingerprint: str, seconds: float) -> Provenance:
        libraries = " ".join(f"{name}=={number}" for name, number in library_versions().items())
        return Provenance(
            key=step.key,
            fingerprint=fingerprint,
            code=__version__,
            libraries=libraries,
            seed=self.spec.seed,
            dtype=self.spec.dtype,
            device=self.spec.device,
            wall_seconds=seconds,
        )


def prepare_tasks(spec: StudySpec, folder: Path, plan: Plan, store: Store) -> dict[str, Evaluator]:
    """Load every task that has an unfinished step, before hours are spent on the others.

    Raises:
        UnknownNameError, DatasetError: for a task that does not exist or cannot be read.
    """
    open_steps = [s for s in plan.steps if s.kind == "behaviour" and not store.has(s.key)]
    subjects = list(dict.fromkeys(step.subject for step in open_steps))
    if not subjects:
        return {}
    from miscible.evaluate.contract import evaluators

    prepared: dict[str, Evaluator] = {}
    with task("load tasks", len(subjects)) as advance:
        for subject in subjects:
            options = behaviour_options(spec, folder, subject)
            prepared[subject] = evaluators.get("lm_eval")(options)
            prepared[subject].prepare()
            advance(1)
    return prepared


def matched_factor(store: Store, model: PlannedModel) -> float:
    """Return lambda of a matched merge from its dose step; 1 for any other model.

    Raises:
        MiscibleError: if the dose step has no result.
    """
    if model.merge is None or not model.merge.matched:
        return 1.0
    dose = next(step for step in model.steps if step.kind == "dose")
    about = store.about(dose.key)
    if about is None:
        raise MiscibleError("its dose could not be measured.", where=model.name)
    return float(about["lambda"])


def with_lambda(model: PlannedModel, factor: float) -> Checkpoint:
    """Return the model's checkpoint, the merged delta multiplied by *factor*."""
    merge = model.checkpoint
    if factor == 1.0 or not isinstance(merge, VirtualCheckpoint):
        return merge
    recipe = merge.recipe.model_copy(
        update={"parameters": {**merge.recipe.parameters, "lambda": factor}}
    )
    return VirtualCheckpoint(
        recipe, merge.models, name=merge.name, seed=merge.seed, device=merge.device,
        opened=merge.opened,
    )  # fmt: skip
