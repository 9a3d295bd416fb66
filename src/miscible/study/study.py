"""A study as an object: plan, run, look at the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from miscible import __version__
from miscible.errors import MiscibleError, SpecError
from miscible.records import KINDS, FailureRow, to_frame
from miscible.study.estimate import Estimator, describe_cost
from miscible.study.outcomes import outcome_frame
from miscible.study.plan import Plan, PlannedModel, Step, library_versions, make_plan
from miscible.study.run import RunSummary, matched_factor, prepare_tasks, run_plan, with_lambda
from miscible.study.spec import StudySpec, read_study
from miscible.study.store import Store, columns_of

if TYPE_CHECKING:
    import pandas as pd

    from miscible.analyse.tables import StudyTables

State = Literal["finished", "failed", "open"]


@dataclass(frozen=True, slots=True)
class StepState:
    """How far a step is; *error* is empty unless it failed."""

    step: Step
    state: State
    error: str = ""


class Study:
    """A study file and its results.

    Args:
        spec: the study.
        origin: folder of the study file; local paths in it are relative to this folder.
        folder: where results are kept.
    """

    def __init__(self, spec: StudySpec, origin: Path, folder: Path) -> None:
        self.spec, self.origin = spec, origin
        self.store = Store(folder)

    @classmethod
    def open(cls, path: Path | str, folder: Path | str | None = None) -> Study:
        """Open a study file; results go to the folder of the study's name beside it.

        Raises:
            SpecError: if the file is not a study.
        """
        file = Path(path)
        if file.is_dir():
            raise SpecError("this is a folder; a study is a YAML file.", where=str(file))
        spec = read_study(file)
        return cls(spec, file.parent, Path(folder) if folder else file.parent / spec.name)

    @cached_property
    def plan(self) -> Plan:
        """The models and steps; opens models by their headers.

        Raises:
            MiscibleError: whatever is wrong with models, recipes, tasks or data sets.
        """
        return make_plan(self.spec, self.origin)

    def run(self) -> RunSummary:
        """Compute what is not there yet; the same call again goes on where a run was stopped."""
        return run_plan(self.spec, self.origin, self.plan, self.store)

    def cost(self) -> Mapping[str, float]:
        """Return number of steps, finished steps, expected seconds and peak bytes.

        Raises:
            MiscibleError: as `plan`, or for a task that does not exist or cannot be read.
        """
        tasks = prepare_tasks(self.spec, self.origin, self.plan, self.store)
        estimator = Estimator(self.spec, self.plan, self.store, tasks)
        return describe_cost(self.plan, self.store, estimator)

    def status(self) -> list[StepState]:
        """Return the state of every step of the study as its file is now."""
        states = []
        for step in self.plan.steps:
            failure = self.store.failure(step.key)
            if self.store.has(step.key):
                states.append(StepState(step, "finished"))
            elif failure is not None:
                states.append(StepState(step, "failed", failure["error"]))
            else:
                states.append(StepState(step, "open"))
        return states

    def rows(self, kind: str | None = None) -> pd.DataFrame:
        """Return the rows of all finished steps.

        Args:
            kind: of row, ``score`` for one, for the columns of that kind alone.

        Two names for the same weights share their steps; each gets its own rows here.
        """
        import pandas as pd

        frames = []
        for model in self.plan.models:
            frame = self.store.read([step.key for step in model.steps])
            frames.append(frame.assign(model=model.name))
        rows = pd.concat([f for f in frames if len(f)] or frames[:1], ignore_index=True)
        rows["layer"] = rows["layer"].astype("Int64")
        if kind is None:
            return rows
        if kind not in KINDS:
            raise MiscibleError(
                f"{kind!r} is not a kind of row.", fix=f"Known: {', '.join(KINDS)}."
            )
        held = rows.loc[rows["kind"] == kind, columns_of(kind)].reset_index(drop=True)
        if "higher_is_better" in held:
            held["higher_is_better"] = held["higher_is_better"].astype(bool)
        return held

    def tables(self) -> StudyTables:
        """Return everything that analysis and report need."""
        import pandas as pd

        from miscible.analyse.tables import StudyTables

        failed = [
            FailureRow(s.step.model, str(s.step), s.error.strip().splitlines()[-1])
            for s in self.status()
            if s.state == "failed"
        ]
        within = self.rows("failure")  # parts of finished steps
        return StudyTables(
            name=self.spec.name,
            models=pd.DataFrame([self._describe(model) for model in self.plan.models]),
            scores=self.rows("score"),
            items=self.rows("item"),
            similarities=self.rows("similarity"),
            doses=self.rows("dose"),
            mergeability=self.rows("mergeability"),
            predictions=self.rows("prediction"),
            outcomes=outcome_frame(self),
            failures=pd.concat([to_frame(failed), within]) if failed else within,
            provenance=self.provenance(),
        )

    def provenance(self) -> dict[str, Any]:
        """Return versions, numerics, options and times of the study as plain nested data."""
        states = self.status()
        seconds: dict[str, float] = {}
        for state in states:
            if state.state == "finished":
                taken = self.store.seconds(state.step.key) or 0.0
                seconds[state.step.kind] = seconds.get(state.step.kind, 0.0) + taken
        return {
            "miscible": __version__,
            "libraries": library_versions(),
            "numerics": {
                "seed": self.spec.seed, "dtype": self.spec.dtype, "device": self.spec.device,
            },
            "warnings": list(self.plan.warnings),
            "steps": {
                name: sum(state.state == name for state in states)
                for name in ("finished", "failed", "open")
            },
            "seconds": seconds,
            "study": self.spec.model_dump(exclude_defaults=True),
        }  # fmt: skip

    def _describe(self, model: PlannedModel) -> dict[str, Any]:
        try:
            weights = with_lambda(model, matched_factor(self.store, model))
        except MiscibleError:
            weights = model.checkpoint
        return {
            "model": model.name,
            "role": model.role,
            "family": model.family,
            "method": model.method,
            "requested_dose": model.dose,
            "reference": model.reference,
            "fingerprint": weights.fingerprint,
        }
