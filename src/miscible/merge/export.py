"""From a virtual merge to a model folder that the Hub and mergekit users recognise."""

from __future__ import annotations

import json
from pathlib import Path

from miscible import __version__
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.ref import DEMO_PREFIX, is_hub_id
from miscible.models.writer import write_checkpoint
from miscible.records import DoseRow

RECIPE_NAME = "mergekit_config.yml"
LINEAGE_NAME = "miscible.json"


def write_merge(merge: VirtualCheckpoint, destination: Path, doses: list[DoseRow]) -> None:
    """Write a merge as a model folder with its recipe, lineage and card.

    Raises:
        CheckpointError: see `miscible.models.writer.write_checkpoint`.
    """
    files = {
        RECIPE_NAME: merge.recipe.to_yaml(),
        LINEAGE_NAME: json.dumps(_lineage(merge, doses), indent=2) + "\n",
        "README.md": _card(merge, destination.name, doses),
    }
    write_checkpoint(merge, destination, files=files)


def _lineage(merge: VirtualCheckpoint, doses: list[DoseRow]) -> dict[str, object]:
    return {
        "miscible": __version__,
        "fingerprint": merge.fingerprint,
        "method": merge.plan.method.name,
        "seed": merge.seed if merge.plan.method.random else None,
        "models": {reference: m.fingerprint for reference, m in merge.models.items()},
        "doses": [
            {"parent": d.parent, "projection": d.projection, "coefficient": d.coefficient}
            for d in doses
        ],
    }


def _card(merge: VirtualCheckpoint, title: str, doses: list[DoseRow]) -> str:
    method = merge.plan.method
    public = {reference: _public_name(reference) for reference in merge.models}
    parents = [reference for reference in merge.models if is_hub_id(reference)]
    listed = "".join(f"\n- {json.dumps(reference)}" for reference in parents)
    front = f"base_model:{listed}\nbase_model_relation: merge\n" if parents else ""
    table = "\n".join(
        f"| `{public[d.parent]}` | {d.projection:.3f} | {d.coefficient:.3f} |" for d in doses
    )
    recipe = merge.recipe.renamed(public).to_yaml()
    return (
        f"---\nlibrary_name: transformers\n{front}tags:\n- merge\n- miscible\n---\n\n"
        f"# {title}\n\nA merge of {len(merge.models)} models by *{method.name}* ({method.paper}), "
        f"made with miscible {__version__}.\n\n"
        f"## Effective dose\n\n| parent | projection | coefficient |\n|---|---|---|\n{table}\n\n"
        f"## Recipe\n\n```yaml\n{recipe}```\n"
    )


def _public_name(reference: str) -> str:
    # A card is published: a local path means nothing to others and says where its author works.
    parts = reference.split("+")
    return "+".join(p if is_hub_id(p) or p.startswith(DEMO_PREFIX) else Path(p).name for p in parts)
