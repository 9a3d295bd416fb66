"""Rows of embeddings against vocabularies, and output heads that are tied or stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from miscible.models.layout import input_embedding, is_output_head
from miscible.models.preflight.finding import Finding, Severity, by_value
from miscible.models.preflight.subject import Subject

UNION = "Give the recipe a 'tokenizer_source' (union, base, or one of its models)."


def check_rows(subject: Subject, ids: Mapping[str, int] | None) -> list[Finding]:
    """Compare the rows of a model's embedding with its own vocabulary and config."""
    rows, models = _embedding_rows(subject), (subject.reference,)
    if rows is None:
        return []
    findings = []
    stated = subject.config.get("vocab_size")
    if type(stated) is int and stated != rows:
        what = f"{subject.label} has {rows} embedding rows, and its config says {stated}."
        findings.append(
            Finding(Severity.ERROR, "embedding", models, what,
                    "Set 'vocab_size' to the number of rows; as it is the model does not load.")
        )  # fmt: skip
    if ids:
        needed = max(ids.values()) + 1
        if needed > rows:
            what = f"{subject.label} has tokens up to id {needed - 1}, and {rows} embedding rows."
            findings.append(
                Finding(Severity.ERROR, "embedding", models, what,
                        "Its tokenizer is another model's; use the one it was trained with.")
            )  # fmt: skip
        elif needed < rows:
            what = f"{subject.label} pads its {needed} tokens to {rows} embedding rows."
            findings.append(Finding(Severity.INFO, "embedding", models, what))
    return findings


def check_same_rows(subjects: Sequence[Subject], judged: Severity) -> list[Finding]:
    """Compare the number of embedding rows of all models."""
    values = [(s, rows) for s in subjects if (rows := _embedding_rows(s)) is not None]
    if len({rows for _, rows in values}) < 2:
        return []
    listed = by_value([(subject.label, rows) for subject, rows in values])
    models = tuple(subject.reference for subject, _ in values)
    what = f"the number of embedding rows differs: {listed}."
    return [Finding(judged, "embedding", models, what, UNION if judged is Severity.ERROR else None)]


def _embedding_rows(subject: Subject) -> int | None:
    if subject.checkpoint is None:
        return None
    tensors = subject.checkpoint.tensors
    name = input_embedding(tensors)
    if name is None or not tensors[name].shape:
        return None
    return tensors[name].shape[0]


def check_heads(subjects: Sequence[Subject], template: str) -> list[Finding]:
    """Compare output heads: stored, or tied to the embedding."""
    held = [s for s in subjects if s.checkpoint is not None]
    findings = []
    heads = {s.reference: any(map(is_output_head, s.checkpoint.tensors)) for s in held
             if s.checkpoint is not None}  # fmt: skip
    for subject in held:
        if subject.config.get("tie_word_embeddings") is False and not heads[subject.reference]:
            if not any(heads.values()):
                continue  # a model without any output head, such as an encoder
            what = f"{subject.label} has no output head, and its config does not tie it."
            findings.append(
                Finding(Severity.ERROR, "tied embeddings", (subject.reference,), what,
                        "Set 'tie_word_embeddings' to true if its head is its embedding; "
                        "else the file is not complete.")
            )  # fmt: skip
    if len(set(heads.values())) > 1:
        values = [(s.label, "stored" if heads[s.reference] else "tied") for s in held]
        what = (
            f"the output head is {by_value(values)}: the merge writes one, to which tied models "
            "contribute their embedding."
        )
        findings.append(Finding(Severity.WARNING, "tied embeddings", tuple(heads), what))
        return findings
    flags = [(s, s.config["tie_word_embeddings"]) for s in held
             if isinstance(s.config.get("tie_word_embeddings"), bool)]  # fmt: skip
    if len({flag for _, flag in flags}) > 1:
        listed = by_value([(subject.label, flag) for subject, flag in flags])
        what = f"tie_word_embeddings is {listed}; the merge takes that of {template}."
        models = tuple(subject.reference for subject, _ in flags)
        findings.append(
            Finding(Severity.WARNING, "tied embeddings", models, what,
                    "Where it is true a stored head is not loaded: check what the models use.")
        )  # fmt: skip
    return findings
