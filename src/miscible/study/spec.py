"""The study file: one YAML that says what to merge and what to measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from miscible.errors import did_you_mean
from miscible.models.live import DTYPES
from miscible.spec import Strict, read_yaml

Dose = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
_NAME = r"^[\w][\w.+ -]{0,79}$"
Name = Annotated[str, Field(pattern=_NAME)]


class MergeEntry(Strict):
    """One line of `merges`: a recipe file, or methods at doses.

    Attributes:
        method: one method or several.
        dose: share of the second parent, one or several; equal shares for all parents if absent.
        parameters: further parameters of the method.
        match: whether lambda of methods on deltas is chosen so that the parents' effective doses
            add up to 1; compares methods at matched dose. Ignored where `parameters` gives lambda.
        recipe: path of a mergekit recipe, relative to the study file.
        name: name of the merge; made from method and dose if absent.
    """

    method: list[str] = []
    dose: list[Dose] = []
    parameters: dict[str, Any] = {}
    match: bool = True
    recipe: str | None = None
    name: Name | None = None

    @field_validator("method", "dose", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @model_validator(mode="after")
    def _recipe_or_method(self) -> MergeEntry:
        if bool(self.method) == bool(self.recipe):
            raise ValueError("a merge needs either 'method' or 'recipe'")
        if self.recipe and (self.dose or self.parameters):
            raise ValueError(
                "a recipe has its own parameters; 'dose' and 'parameters' go elsewhere"
            )
        if self.name and len(self.method) * max(1, len(self.dose)) > 1:
            raise ValueError("one 'name' cannot stand for several merges")
        return self


class Behaviour(Strict):
    """What behaviour to measure; see `miscible.evaluate.EvaluationOptions`.

    `limit` is one number for all tasks, or a number by task.
    """

    tasks: list[str] = Field(min_length=1)
    data: dict[str, str | dict[str, str]] = {}
    include: list[str] = []
    limit: Count | dict[str, Count] | None = None
    num_fewshot: int | None = Field(None, ge=0)
    apply_chat_template: bool = False
    batch_tokens: int = Field(512, ge=1)

    @field_validator("tasks", "include", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @model_validator(mode="after")
    def _limits_of_tasks(self) -> Behaviour:
        for name in self.limit if isinstance(self.limit, dict) else ():
            if name not in self.tasks:
                raise ValueError(f"'limit' names {name!r}. {did_you_mean(name, self.tasks)}")
        return self

    def limit_of(self, task: str) -> int | None:
        """Return the most items of a task, None for all."""
        return self.limit.get(task) if isinstance(self.limit, dict) else self.limit


class Internals(Strict):
    """What internals to probe.

    Attributes:
        datasets: sources, as ``templates`` or ``minimal_pairs: PATH``.
        layers: ``all`` or a list; negative numbers count from the last.
        limit: most examples (pairs) of one data set.
        control: whether probes are also fitted to control labels, for selectivity.
        words: whether bags of words are scored too.
        similarity: number of texts on which each model is compared with the base and the parents
            without probes (CKA, drift, logit lens); 0 for none.
        batch_tokens: most tokens of a forward pass.
        cache: folder of states that models gave before; other studies may share it.
    """

    datasets: list[str] = Field(min_length=1)
    layers: Literal["all"] | list[int] = "all"
    limit: int | None = Field(None, ge=1)
    control: bool = False
    words: bool = False
    similarity: int = Field(128, ge=0, le=4096)
    batch_tokens: int | None = Field(None, ge=1)
    cache: str | None = None

    @property
    def measured(self) -> dict[str, Any]:
        """What results depend on, beside the data."""
        return {
            "layers": self.layers, "control": self.control, "words": self.words,
            "rounded": self.cache is not None,
        }  # fmt: skip

    @field_validator("datasets", mode="before")
    @classmethod
    def _as_specs(cls, value: Any) -> Any:
        entries = value if isinstance(value, list) else [value]
        specs: list[Any] = []
        for entry in entries:
            if isinstance(entry, dict):
                specs += [f"{source}:{argument}" for source, argument in entry.items()]
            else:
                specs.append(entry)
        return specs


class Metrics(Strict):
    """What to measure of the parents before any merge; `all` or a list stands for `names`.

    Attributes:
        names: metrics and categories of `miscible.measure`, or `all`.
        by: parts of the models of which values are wanted too.
        calibration: text over which parents are run: `built-in`, a file, `hub:NAME`.
        samples, length: sequences, and their tokens; see `miscible.measure.calibrate.Calibration`.
    """

    names: list[str] = Field(["all"], min_length=1)
    by: Literal["layer", "role"] | None = "layer"
    calibration: str = "built-in"
    samples: Count | None = None
    length: int | None = Field(None, ge=2)

    @model_validator(mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        return {"names": value} if isinstance(value, str | list) else value

    @field_validator("names", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]


class Predict(Strict):
    """What is expected of merges before they are made; a path alone stands for `predictor`.

    Attributes:
        predictor: a file that ``miscible fit`` wrote.
        models: a table of models with the scalars that it reads.
        level: of intervals; the predictor's if absent.
        tasks: by parent its own task, or ``task:metric``, on which a merge's outcome is measured;
            the task of a parent's name if absent.
    """

    predictor: str
    models: str | None = None
    level: float | None = Field(None, gt=0, lt=1)
    tasks: dict[Name, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"predictor": value} if isinstance(value, str) else value


class StudySpec(Strict):
    """A study.

    Attributes:
        name: its name, also of its folder.
        base: reference of the common base.
        parents: references by short name; the dose axis runs from the first to the second.
        merges: what to merge.
        behaviour, internals: what to measure; at least one of them.
        metrics: mergeability metrics of every two parents.
        predict: a predictor that is asked before anything is merged.
        seed, dtype, device: one numerics policy for everything that is measured.
    """

    name: Name
    base: str
    parents: dict[Name, str] = Field(min_length=1)
    merges: list[MergeEntry] = []
    behaviour: Behaviour | None = None
    internals: Internals | None = None
    metrics: Metrics | None = None
    predict: Predict | None = None
    seed: int = Field(0, ge=0)
    dtype: str = "float32"
    device: str = "cpu"

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, value: str) -> str:
        if value not in DTYPES:
            raise ValueError(f"{value!r} is not one of {', '.join(DTYPES)}")
        return value

    @model_validator(mode="after")
    def _something_to_measure(self) -> StudySpec:
        if self.behaviour is None and self.internals is None:
            raise ValueError("there is nothing to measure: give 'behaviour', 'internals' or both")
        if self.metrics is not None and len(self.parents) < 2:
            raise ValueError("'metrics' compare parents, and there is only one")
        if self.predict is not None and len(self.parents) < 2:
            raise ValueError("'predict' is of two parents, and there is only one")
        if "base" in self.parents:
            raise ValueError("'base' names the base; call the parent something else")
        return self


def read_study(path: Path) -> StudySpec:
    """Read a study file.

    Raises:
        SpecError: with file and line.
    """
    return read_yaml(path).validate(StudySpec)
