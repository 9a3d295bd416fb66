"""Whether a merge will go through, and what is wrong if not: before any weights are downloaded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from miscible.errors import MiscibleError, RecipeError, UnknownNameError
from miscible.merge.contract import METHODS, Base
from miscible.merge.degenerate import degeneracies
from miscible.merge.needs import Needs, check_space, needs_of
from miscible.merge.recipe import Recipe, Source
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.preflight import (
    Finding,
    Severity,
    Subject,
    check_architecture,
    check_chat_templates,
    check_configs,
    check_licences,
    check_lineage,
    check_storage,
    check_vocabulary,
    open_subject,
    sorted_findings,
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found about a merge.

    Attributes:
        method: the merging method that was planned with.
        models: references, as the user wrote them; the base first.
        findings: the gravest first.
        needs: of the machine.
    """

    method: str
    models: tuple[str, ...]
    findings: tuple[Finding, ...]
    needs: Needs

    @property
    def will_merge(self) -> bool:
        """Whether nothing needs to be mended first."""
        return not self.count(Severity.ERROR)

    def count(self, severity: Severity) -> int:
        """Return the number of findings of one severity."""
        return sum(finding.severity is severity for finding in self.findings)


def recipe_of(models: Sequence[str], base: str | None = None) -> Recipe:
    """Return the plainest merge of some models: of their task vectors, or without base the mean.

    Raises:
        RecipeError: if there are too few models.
    """
    wanted = 1 if base is not None else 2
    distinct = list(dict.fromkeys(models))
    if len(distinct) < wanted:
        raise RecipeError(
            f"a merge needs at least {wanted} models{' besides the base' if base else ''}, "
            f"got {len(distinct)}.",
            fix="Name more models, or a recipe file.",
        )
    weight = {"weight": 1.0 / len(distinct)}
    return Recipe(
        merge_method="linear" if base is None else "task_arithmetic",
        base_model=base,
        models=[Source(model=model, parameters=weight) for model in distinct],
    )


def diagnose(
    recipe: Recipe, *, relative_to: Path | None = None, any_method: bool = False
) -> Diagnosis:
    """Check the merge that a recipe describes, from configs, headers and model cards alone.

    Args:
        recipe: the recipe.
        relative_to: folder against which local paths are resolved; the working folder if None.
        any_method: whether the recipe's method is a stand-in (`recipe_of`): then what a base that
            is also a parent does to every method is told.

    Raises:
        RecipeError, UnknownNameError: if the recipe cannot be carried out, whatever the models.
        ModelReferenceError: if a reference is malformed, or cannot be looked up.
    """
    METHODS.get(recipe.merge_method)
    references = recipe.references()
    labels = labels_of(references, relative_to)
    with tempfile.TemporaryDirectory(prefix="miscible-doctor-") as scratch:
        subjects = [
            open_subject(r, Path(scratch), relative_to=relative_to, label=labels[r])
            for r in references
        ]
        virtual, refusal = _planned(recipe, subjects)
        findings = list(_examined(recipe, subjects, virtual, refusal, any_method=any_method))
        needs = needs_of(subjects, virtual)
        findings += check_space(needs, Path())
    return Diagnosis(
        recipe.merge_method, tuple(references), tuple(sorted_findings(findings)), needs
    )


def labels_of(references: Sequence[str], relative_to: Path | None = None) -> Mapping[str, str]:
    """Return short names: for local folders the last part of their path, where that is enough."""
    short = {r: Path(r).name or r if _is_folder(r, relative_to) else r for r in references}
    held = list(short.values())
    return {r: label if held.count(label) == 1 else r for r, label in short.items()}


def _is_folder(reference: str, relative_to: Path | None) -> bool:
    try:
        return ((relative_to or Path()) / Path(reference).expanduser()).is_dir()
    except (OSError, RuntimeError, ValueError):  # for the opening of it to say
        return False


def _planned(
    recipe: Recipe, subjects: Sequence[Subject]
) -> tuple[VirtualCheckpoint | None, MiscibleError | None]:
    models = _models(subjects)
    if len(models) < len(subjects):
        return None, None
    try:
        virtual = VirtualCheckpoint(recipe, models)
        assert virtual.tensors is not None  # dtypes are only matched when they are asked for
    except (RecipeError, UnknownNameError):
        raise
    except MiscibleError as error:
        return None, error
    return virtual, None


def _models(subjects: Iterable[Subject]) -> dict[str, Checkpoint]:
    return {s.reference: s.checkpoint for s in subjects if s.checkpoint is not None}


def _examined(
    recipe: Recipe,
    subjects: Sequence[Subject],
    virtual: VirtualCheckpoint | None,
    refusal: MiscibleError | None,
    *,
    any_method: bool,
) -> Iterator[Finding]:
    # What plans is what merges: differences of tensors and tokens are as grave as the plan says.
    judged = Severity.WARNING if virtual is not None else Severity.ERROR
    whole = recipe.models is not None
    template = subjects[0].label
    method = METHODS.get(recipe.merge_method)
    base = None
    if recipe.base_model is not None and method.base is not Base.FIRST:
        base = next(s for s in subjects if s.reference == recipe.base_model)
    found: list[Finding] = [finding for s in subjects for finding in s.findings]
    found += check_architecture(subjects, slices=not whole, judged=judged)
    found += check_configs(subjects, template, slices=not whole)
    found += check_vocabulary(subjects, template, judged=judged)
    if recipe.chat_template is None:
        found += check_chat_templates(subjects, template)
    found += check_storage(
        subjects, dtype_given=recipe.dtype is not None or recipe.out_dtype is not None
    )
    found += check_lineage(subjects, base)
    found += check_licences(subjects)
    found += _degenerate(recipe, subjects, any_method=any_method)
    if refusal is not None and not any(f.severity is Severity.ERROR for f in found):
        where = f"{refusal.where}: " if refusal.where else ""
        models = tuple(subject.reference for subject in subjects)
        found.append(Finding(Severity.ERROR, "plan", models, where + refusal.what, refusal.fix))
    yield from found


def _same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    # By hashes where the models are not here: samples of a hollow snapshot are all alike.
    return one.fingerprint == other.fingerprint


def _degenerate(
    recipe: Recipe, subjects: Sequence[Subject], *, any_method: bool
) -> Iterator[Finding]:
    models = _models(subjects)
    if len(models) < len(subjects):
        return
    methods = list(METHODS) if any_method else [METHODS.get(recipe.merge_method)]
    told: dict[str, list[str]] = {}
    for method in methods:
        for sentence in degeneracies(recipe, method, models, _same_weights):
            told.setdefault(sentence.replace(f"and {method.name} ", "and {} "), []).append(
                method.name
            )
    references = tuple(models)
    for sentence, names in told.items():
        listed = f"any of the {len(names)} methods on task vectors" if any_method else names[0]
        yield Finding(
            Severity.WARNING, "base", references, sentence.replace("{}", listed),
            "Name the model as base that all parents were trained from; to mix two models only, "
            "use linear or slerp without another base.",
        )  # fmt: skip
