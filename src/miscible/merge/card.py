"""The model card of a merge, in the Hub's form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from miscible import __version__
from miscible.merge.publishing import parent_name, published
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.licence import Kind, licence_of, read_card
from miscible.models.ref import is_hub_id
from miscible.records import DoseRow


def card_of(
    merge: VirtualCheckpoint,
    title: str,
    recipe: str,
    public: Mapping[str, str],
    doses: Sequence[DoseRow],
) -> str:
    """Return the card: front matter, effective doses, and the recipe.

    Args:
        merge: the merge.
        title: of the card.
        recipe: as it is published.
        public: publishable name by reference.
        doses: of the parents.
    """
    method = merge.plan.method
    table = "\n".join(
        f"| `{parent_name(d, public)}` | {d.projection:.3f} | {d.coefficient:.3f} |" for d in doses
    )
    notes = "".join(f"\n- {published(w, merge.models, public)}" for w in merge.warnings)
    return (
        f"---\n{_front_matter(merge)}---\n\n"
        f"# {title}\n\nA merge of {len(merge.models)} models by *{method.name}* ({method.paper}), "
        f"made with miscible {__version__}.\n\n"
        f"## Effective dose\n\n| parent | projection | coefficient |\n|---|---|---|\n{table}\n\n"
        + (f"## Notes\n{notes}\n\n" if notes else "")
        + f"## Recipe\n\n```yaml\n{recipe}```\n"
    )


def _front_matter(merge: VirtualCheckpoint) -> str:
    parents = [reference for reference in merge.models if is_hub_id(reference)]
    listed = "".join(f"\n- {json.dumps(reference.partition('@')[0])}" for reference in parents)
    base = f"base_model:{listed}\nbase_model_relation: merge\n" if parents else ""
    return f"library_name: transformers\n{_licence(merge)}{base}tags:\n- merge\n- miscible\n"


def _licence(merge: VirtualCheckpoint) -> str:
    # The licence that all parents share; where they differ it is for people to say.
    stated = [licence_of(read_card(model.folder)) for model in merge.models.values()]
    names = {licence.name for licence in stated}
    if len(names) == 1 and stated[0].kind not in (Kind.ABSENT, Kind.UNKNOWN):
        return f"license: {json.dumps(stated[0].name.partition(' ')[0])}\n"
    return ""
