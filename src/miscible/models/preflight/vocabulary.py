"""Whether models give the same tokens the same ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from miscible.errors import CheckpointError
from miscible.models.preflight.embeddings import UNION, check_heads, check_rows, check_same_rows
from miscible.models.preflight.finding import Finding, Severity, shown
from miscible.models.preflight.subject import Subject
from miscible.models.vocab import TOKENIZER_NAME, read_vocabulary


@dataclass(frozen=True)
class _Tokens:
    """The tokens of a model: a mapping to ids where the file was read, else its hash alone."""

    ids: Mapping[str, int] | None
    digest: str | None


def check_vocabulary(
    subjects: Sequence[Subject], template: str, *, judged: Severity
) -> list[Finding]:
    """Compare tokens, embedding rows and output heads.

    Args:
        subjects: the models, the base first.
        template: label of the model whose tokenizer the merge takes unless its recipe says else.
        judged: how grave it is that vocabularies differ: whether the merge can be planned all the
            same.
    """
    held = [s for s in subjects if s.place is not None]
    findings: list[Finding] = []
    known: list[tuple[Subject, _Tokens]] = []
    for subject in held:
        try:
            vocabulary = _tokens(subject)
        except CheckpointError as error:
            what = f"{subject.label}: {TOKENIZER_NAME}: {error.what}"
            fix = error.fix or "Download or copy it again; it is damaged."
            findings.append(Finding(Severity.ERROR, "tokenizer", (subject.reference,), what, fix))
            continue
        if vocabulary is None:
            what = f"{subject.label} has no tokenizer: its tokens are not compared."
            findings.append(Finding(Severity.WARNING, "tokenizer", (subject.reference,), what))
        else:
            known.append((subject, vocabulary))
            findings += check_rows(subject, vocabulary.ids)
    findings += _same_tokens(known, judged)
    findings += check_same_rows(held, judged)
    findings += check_heads(held, template)
    return findings


def _tokens(subject: Subject) -> _Tokens | None:
    place = subject.place
    assert place is not None
    files = {} if place.repository is None else place.repository.files
    digest = files[TOKENIZER_NAME].digest if TOKENIZER_NAME in files else None
    if TOKENIZER_NAME in files and not (place.folder / TOKENIZER_NAME).is_file():
        return _Tokens(None, digest)  # too large to be fetched
    held = read_vocabulary(place.folder)
    return None if held is None else _Tokens(held.ids, digest)


def _same_tokens(known: Sequence[tuple[Subject, _Tokens]], judged: Severity) -> list[Finding]:
    if len(known) < 2:
        return []
    (first, reference), *others = known
    findings = []
    for subject, vocabulary in others:
        models = (first.reference, subject.reference)
        if vocabulary.digest is not None and vocabulary.digest == reference.digest:
            continue
        if vocabulary.ids is None or reference.ids is None:
            what = (
                f"the tokenizers of {first.label} and {subject.label} are different files that are "
                "not compared token by token."
            )
            findings.append(Finding(Severity.WARNING, "tokenizer", models, what))
            continue
        different = _difference(first.label, reference.ids, subject.label, vocabulary.ids)
        if different:
            fix = UNION if judged is Severity.ERROR else None
            findings.append(Finding(judged, "tokenizer", models, different, fix))
    if not findings:
        count = "" if reference.ids is None else f" ({len(reference.ids)} tokens)"
        what = f"all tokenizers give the same tokens the same ids{count}."
        everyone = tuple(subject.reference for subject, _ in known)
        findings.append(Finding(Severity.INFO, "tokenizer", everyone, what))
    return findings


def _difference(
    first: str, reference: Mapping[str, int], second: str, found: Mapping[str, int]
) -> str | None:
    moved = [token for token, i in found.items() if reference.get(token, i) != i]
    if moved:
        token = moved[0]
        return (
            f"{len(moved)} tokens have other ids, first {shown(repr(token))}: "
            f"{reference[token]} in {first}, {found[token]} in {second}."
        )
    alone = [(len(reference.keys() - found.keys()), first), (len(found.keys() - reference), second)]
    told = [f"{count} tokens are only in {label}" for count, label in alone if count]
    return f"{' and '.join(told)}." if told else None
