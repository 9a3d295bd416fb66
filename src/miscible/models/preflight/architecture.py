"""Whether models are made of the same tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from miscible.models.formats.safetensors import TensorInfo
from miscible.models.layout import input_embedding, is_output_head
from miscible.models.preflight.finding import Finding, Severity, by_value, some
from miscible.models.preflight.subject import Subject

MOST_MISSING = 0.1
"""Models that lack a larger share of each other's tensors are not of one architecture and size."""


def check_architecture(
    subjects: Sequence[Subject], *, slices: bool, judged: Severity
) -> list[Finding]:
    """Compare architectures by name, then tensors by name and shape, with the first model's.

    Args:
        subjects: the models, the base first.
        slices: whether the merge takes layers out of models: then tensors are for it to match.
        judged: how grave it is that tensors differ: whether the merge can be planned all the same.
    """
    findings = _names(subjects)
    held = [(s, s.checkpoint.tensors) for s in subjects if s.checkpoint is not None]
    if slices or len(held) < 2:
        return findings
    (first, reference), *others = held
    embeddings = _vocabulary_tensors(reference)
    for subject, tensors in others:
        findings += _compared(first, reference, subject, tensors, embeddings, judged)
    if not any(finding.check == "tensors" for finding in findings):
        size = _amount(sum(info.size for info in reference.values()))
        what = f"all {len(reference)} tensors have the same names and shapes ({size} weights)."
        models = tuple(subject.reference for subject, _ in held)
        findings.append(Finding(Severity.INFO, "tensors", models, what))
    return findings


def _names(subjects: Sequence[Subject]) -> list[Finding]:
    findings = []
    for key, severity in (("model_type", Severity.ERROR), ("architectures", Severity.WARNING)):
        values = [(s, s.config.get(key)) for s in subjects if s.config.get(key)]
        if len({str(value) for _, value in values}) < 2:
            continue
        listed = by_value([(subject.label, _word(value)) for subject, value in values])
        models = tuple(subject.reference for subject, _ in values)
        fix = "Merge models of one architecture." if severity is Severity.ERROR else None
        what = f"{key} is {listed}."
        findings.append(Finding(severity, "architecture", models, what, fix))
        break
    return findings


def _word(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _compared(
    first: Subject,
    reference: Mapping[str, TensorInfo],
    subject: Subject,
    tensors: Mapping[str, TensorInfo],
    embeddings: frozenset[str],
    judged: Severity,
) -> list[Finding]:
    models = (first.reference, subject.reference)
    findings = []
    # Heads that are missing because they are tied, and rows of vocabularies, have checks of
    # their own (`miscible.models.preflight.vocabulary`).
    missing = [n for n in reference if n not in tensors and not is_output_head(n)]
    extra = [n for n in tensors if n not in reference and not is_output_head(n)]
    for count, label, other in (
        (missing, subject.label, first.label),
        (extra, first.label, subject.label),
    ):
        if count:
            are = "tensor" if len(count) == 1 else "tensors"
            what = f"{label} lacks {len(count)} {are} of {other}: {some(count)}."
            broken = judged is Severity.ERROR or len(count) > MOST_MISSING * len(reference)
            findings.append(_differ(models, what, broken=broken))
    reshaped = [
        name
        for name, info in reference.items()
        if name in tensors and tensors[name].shape != info.shape and name not in embeddings
    ]
    if reshaped:
        name = reshaped[0]
        what = (
            f"{len(reshaped)} of {len(reference)} tensors have other shapes, first {name}: "
            f"{list(reference[name].shape)} in {first.label}, {list(tensors[name].shape)} in "
            f"{subject.label}."
        )
        findings.append(_differ(models, what, broken=judged is Severity.ERROR))
    return findings


def _differ(models: tuple[str, ...], what: str, *, broken: bool) -> Finding:
    if broken:
        fix = "Merge models of one architecture and size."
        return Finding(Severity.ERROR, "tensors", models, what, fix)
    fix = "What only some have is merged over those; check that the merge needs it."
    return Finding(Severity.WARNING, "tensors", models, what, fix)


def _amount(count: int) -> str:
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)


def _vocabulary_tensors(tensors: Mapping[str, TensorInfo]) -> frozenset[str]:
    embedding = input_embedding(tensors)
    heads = {name for name in tensors if is_output_head(name)}
    return frozenset(heads | ({embedding} if embedding else set()))
