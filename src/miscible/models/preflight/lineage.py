"""Where models come from: which base they state, whether one is another, and their licences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from miscible.models.licence import Kind, licence_of
from miscible.models.preflight.finding import Finding, Severity, by_value, shown, some
from miscible.models.preflight.subject import Place, Subject

_RESTRICTED: Mapping[Kind, str] = {
    Kind.NON_COMMERCIAL: "does not allow commercial use",
    Kind.NO_DERIVATIVES: "does not allow that changed versions are shared",
    Kind.OWN_TERMS: "has terms of its own",
    Kind.UNKNOWN: "is not known here",
}


def check_lineage(subjects: Sequence[Subject], base: Subject | None) -> list[Finding]:
    """Compare what models state of their origin.

    Args:
        subjects: all models, the base among them.
        base: the origin of all task vectors, if the merge has one.
    """
    findings = _twins(subjects, base) + [f for s in subjects for f in _own_base(s)]
    parents = [s for s in subjects if s is not base and s.place is not None]
    origins = {s.reference: stated_bases(s) for s in parents}
    known = [s for s in parents if origins[s.reference]]
    if base is not None:
        return findings + [f for s in parents for f in _against(s, origins[s.reference], base)]
    if len(known) < 2:
        return findings
    models = tuple(s.reference for s in known)
    shared = set.intersection(*({o.lower() for o in origins[s.reference]} for s in known))
    by_name = {_name(p).lower(): s for s in parents for p in s.places[:1]}
    for subject in known:
        parent = next((by_name[o.lower()] for o in origins[subject.reference]
                       if o.lower() in by_name), None)  # fmt: skip
        if parent is not None and parent is not subject and subject.adapter is None:
            what = f"{subject.label} states that {parent.label} is its base."
            fix = f"Take {parent.label} as the base, and merge the other models' task vectors."
            pair = (subject.reference, parent.reference)
            return [*findings, Finding(Severity.WARNING, "base", pair, what, fix)]
    if shared:
        what = f"all state the same base, {next(iter(sorted(shared)))}."
        return [*findings, Finding(Severity.INFO, "base", models, what)]
    listed = by_value([(s.label, " or ".join(sorted(origins[s.reference]))) for s in known])
    what = f"the models state different bases: {listed}."
    fix = "Merge children of one base; weights of unrelated models do not correspond."
    return [*findings, Finding(Severity.WARNING, "base", models, what, fix)]


def stated_bases(subject: Subject) -> list[str]:
    """Return what a model's adapter config, card or config says it was made from."""
    if subject.adapter is not None and subject.place is not None:
        return [_name(subject.place)]
    card: Mapping[str, Any] = subject.place.card if subject.place is not None else {}
    stated = card.get("base_model")
    names = [n for n in (stated if isinstance(stated, list) else [stated]) if isinstance(n, str)]
    if not names and isinstance(subject.config.get("_name_or_path"), str):
        names = [subject.config["_name_or_path"]]
    own = _name(subject.place).lower() if subject.place is not None else ""
    # Configs also hold paths of the author's machine, and the model's own name.
    return [shown(n, 200) for n in names if n.count("/") == 1 and n[0] not in "/.~"
            and n.lower() != own]  # fmt: skip


def check_licences(subjects: Sequence[Subject]) -> list[Finding]:
    """List what cards say of licences, and warn where a merge cannot simply be published."""
    held = [(s, p, licence_of(p.card)) for s in subjects for p in s.places]
    if not held:
        return []
    findings = []
    for subject, place, licence in held:
        reason = _RESTRICTED.get(licence.kind)
        if reason is not None:
            what = f"the licence of {_shown_name(subject, place)}, {licence}, {reason}."
            findings.append(
                Finding(Severity.WARNING, "licence", (subject.reference,), what,
                        "Read it before the merge is used or published.")
            )  # fmt: skip
    absent = [_shown_name(s, p) for s, p, licence in held if licence.kind is Kind.ABSENT]
    models = tuple(dict.fromkeys(s.reference for s, _, _ in held))
    if absent:
        what = f"the card of {some(list(dict.fromkeys(absent)))} states no licence."
        fix = "Ask its author before the merge is published."
        findings.append(Finding(Severity.WARNING, "licence", models, what, fix))
    stated = [(_shown_name(s, p), licence) for s, p, licence in held if licence.name]
    if len({str(licence) for _, licence in stated}) > 1:
        what = f"the licences differ: {by_value(stated)}."
        fix = "A merge is bound by all of them; check that they go together."
        findings.append(Finding(Severity.WARNING, "licence", models, what, fix))
    elif stated and not absent:
        what = f"all are under {stated[0][1]}."
        findings.append(Finding(Severity.INFO, "licence", models, what))
    return findings


def _twins(subjects: Sequence[Subject], base: Subject | None) -> list[Finding]:
    # A base that is also a parent is told by what it does to the method (`merge.degenerate`).
    groups: dict[str, list[Subject]] = {}
    for subject in subjects:
        if subject.checkpoint is not None and subject is not base:
            groups.setdefault(subject.checkpoint.fingerprint, []).append(subject)
    findings = []
    for twins in groups.values():
        if len(twins) > 1:
            what = f"the same weights are in {some([subject.label for subject in twins])}."
            models = tuple(subject.reference for subject in twins)
            fix = "Leave all but one of them out."
            findings.append(Finding(Severity.WARNING, "same weights", models, what, fix))
    return findings


def _own_base(subject: Subject) -> list[Finding]:
    """Compare the base that an adapter is put on with the one it names."""
    stated = subject.adapter_config.get("base_model_name_or_path")
    if subject.place is None or not isinstance(stated, str) or not stated:
        return []
    name = _name(subject.place)
    if stated.lower() == name.lower() or Path(stated).name.lower() == Path(name).name.lower():
        return []
    what = f"the adapter of {subject.label} was trained on {shown(stated, 200)}, not on {name}."
    fix = "Put it on its own base; on another one its low-rank difference means something else."
    return [Finding(Severity.WARNING, "adapter", (subject.reference,), what, fix)]


def _against(subject: Subject, origins: Sequence[str], base: Subject) -> list[Finding]:
    models = (subject.reference, base.reference)
    if base.place is None or subject.place is None:
        return []
    name = _name(base.place)
    if any(origin.lower() == name.lower() for origin in origins):
        what = f"{subject.label} states that {base.label} is its base."
        return [Finding(Severity.INFO, "base", models, what)]
    if not origins:
        what = f"nothing tells from which base {subject.label} was trained."
        return [Finding(Severity.INFO, "base", models, what)]
    if base.place.commit is None and Path(name).name.lower() in map(_last, origins):
        what = f"{subject.label} states as its base {' or '.join(origins)}; {name} may be a copy."
        return [Finding(Severity.INFO, "base", models, what)]
    what = f"{subject.label} states that its base is {' or '.join(origins)}, not {base.label}."
    fix = "Task vectors are differences from the model that was trained on; name that as the base."
    return [Finding(Severity.WARNING, "base", models, what, fix)]


def _last(hub_id: str) -> str:
    return hub_id.rpartition("/")[2].lower()


def _name(place: Place) -> str:
    if place.repository is not None:
        return place.repository.hub_id
    return place.reference.partition("@")[0] if place.commit is not None else place.reference


def _shown_name(subject: Subject, place: Place) -> str:
    return subject.label if len(subject.places) == 1 else _name(place)
