"""Chat templates: which models have the same."""

from __future__ import annotations

import json
from collections.abc import Sequence

from miscible.errors import CheckpointError
from miscible.models.checkpoint import read_json
from miscible.models.preflight.finding import Finding, Severity, by_value, some
from miscible.models.preflight.subject import Subject


def check_chat_templates(subjects: Sequence[Subject], template: str) -> list[Finding]:
    """Compare chat templates, and say which one the merge takes.

    Args:
        subjects: the models.
        template: label of the model whose tokenizer the merge takes unless its recipe says else.
    """
    held = [(s, _chat_template(s)) for s in subjects if s.place is not None]
    texts = [text for _, text in held if text]
    if not texts:
        return []
    models = tuple(subject.reference for subject, _ in held)
    lacking = [subject.label for subject, text in held if not text]
    if len(set(texts)) > 1:
        order = list(dict.fromkeys(texts))
        listed = by_value([(s.label, f"no. {order.index(t) + 1}" if t else None) for s, t in held])
        what = f"the chat templates differ ({listed}); the merge takes that of {template}."
        fix = "Give the recipe a 'chat_template': auto, or the text of the one you want."
        return [Finding(Severity.WARNING, "chat template", models, what, fix)]
    if lacking:
        what = f"there is no chat template in {some(lacking)}; the others share one."
        if template in lacking:
            fix = "The merge takes its tokenizer; give the recipe 'chat_template: auto'."
            return [Finding(Severity.WARNING, "chat template", models, what, fix)]
        return [Finding(Severity.INFO, "chat template", models, what)]
    if len(held) > 1:
        what = "all models have the same chat template."
        return [Finding(Severity.INFO, "chat template", models, what)]
    return []


def _chat_template(subject: Subject) -> str | None:
    assert subject.place is not None
    folder = subject.place.folder
    try:
        with (folder / "chat_template.jinja").open(encoding="utf-8") as file:
            return file.read(1_000_000)
    except (OSError, UnicodeDecodeError):
        pass
    for name in ("tokenizer_config.json", "chat_template.json"):
        try:
            held = read_json(folder / name).get("chat_template")
        except CheckpointError:
            continue
        if held:
            return held if isinstance(held, str) else json.dumps(held, sort_keys=True)
    return None
