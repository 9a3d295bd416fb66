"""From a virtual merge to a model folder that the Hub and mergekit users recognise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path

from miscible import __version__
from miscible.merge.tokenizer import chat_template, template_files
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.adapters import AdaptedCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.ref import DEMO_PREFIX, is_hub_id
from miscible.models.writer import write_checkpoint
from miscible.records import DoseRow

RECIPE_NAME = "mergekit_config.yml"
LINEAGE_NAME = "miscible.json"


def write_merge(merge: VirtualCheckpoint, destination: Path, doses: list[DoseRow]) -> None:
    """Write a merge as a model folder with its recipe, lineage and card.

    Local paths are left out of all three: they mean nothing to others and say where their author
    works. Models are told apart by short names, and identified by their fingerprints.

    Raises:
        CheckpointError: see `miscible.models.writer.write_checkpoint`.
    """
    public = public_names(merge.models)
    recipe = _recipe(merge, public)
    files = {
        RECIPE_NAME: recipe,
        LINEAGE_NAME: json.dumps(_lineage(merge, public, doses), indent=2) + "\n",
        "README.md": _card(merge, destination.name, recipe, public, doses),
    }
    template = chat_template(merge.recipe, merge.models)
    if template is not None:
        files |= template_files(template, merge.folder)
    write_checkpoint(merge, destination, files=files)


def public_names(models: Mapping[str, Checkpoint]) -> dict[str, str]:
    """Return a name for each reference that may be published; no two are equal."""
    names: dict[str, str] = {}
    for reference, model in models.items():
        parts = [reference]
        if isinstance(model, AdaptedCheckpoint):
            parts = [model.base.name, model.adapter.name]
        stem = "+".join(map(_public, parts))
        candidates = chain([stem], (f"{stem}-{number}" for number in count(2)))
        names[reference] = next(name for name in candidates if name not in names.values())
    return names


def _recipe(merge: VirtualCheckpoint, public: Mapping[str, str]) -> str:
    held = "".join(
        f"#   {json.dumps(public[reference])}: {model.fingerprint}\n"
        for reference, model in merge.models.items()
    )
    return f"# Fingerprints of the models:\n{held}{merge.recipe.renamed(public).to_yaml()}"


def _lineage(
    merge: VirtualCheckpoint, public: Mapping[str, str], doses: list[DoseRow]
) -> dict[str, object]:
    return {
        "miscible": __version__,
        "fingerprint": merge.fingerprint,
        "method": merge.plan.method.name,
        "seed": merge.seed if merge.plan.method.random else None,
        "models": {public[reference]: m.fingerprint for reference, m in merge.models.items()},
        "doses": [
            {
                "parent": _parent(d, public),
                "projection": d.projection,
                "coefficient": d.coefficient,
            }
            for d in doses
        ],
    }


def _card(
    merge: VirtualCheckpoint,
    title: str,
    recipe: str,
    public: Mapping[str, str],
    doses: list[DoseRow],
) -> str:
    method = merge.plan.method
    parents = [reference for reference in merge.models if is_hub_id(reference)]
    listed = "".join(f"\n- {json.dumps(reference)}" for reference in parents)
    front = f"base_model:{listed}\nbase_model_relation: merge\n" if parents else ""
    table = "\n".join(
        f"| `{_parent(d, public)}` | {d.projection:.3f} | {d.coefficient:.3f} |" for d in doses
    )
    return (
        f"---\nlibrary_name: transformers\n{front}tags:\n- merge\n- miscible\n---\n\n"
        f"# {title}\n\nA merge of {len(merge.models)} models by *{method.name}* ({method.paper}), "
        f"made with miscible {__version__}.\n\n"
        f"## Effective dose\n\n| parent | projection | coefficient |\n|---|---|---|\n{table}\n\n"
        f"## Recipe\n\n```yaml\n{recipe}```\n"
    )


def _parent(dose: DoseRow, public: Mapping[str, str]) -> str:
    return public.get(dose.parent) or _public(dose.parent)


def _public(reference: str) -> str:
    if reference.startswith(DEMO_PREFIX) or is_hub_id(reference):
        return reference
    return Path(reference).expanduser().resolve().name or "model"
