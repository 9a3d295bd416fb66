"""From a virtual merge to a model folder that the Hub and mergekit users recognise."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from miscible import __version__
from miscible.merge.card import card_of
from miscible.merge.engine.write import Written, write_streamed
from miscible.merge.publishing import parent_name, public_names, published
from miscible.merge.tokenizer import CONFIG_FILE as TOKENIZER_CONFIG
from miscible.merge.virtual import ENGINE_VERSION, VirtualCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.fingerprint import known_digest, quick_key
from miscible.models.licence import CARD_NAME
from miscible.models.shard import ShardRecord
from miscible.models.writer import SHARD_BYTES
from miscible.records import DoseRow

__all__ = ["LINEAGE_NAME", "RECIPE_NAME", "public_names", "write_merge"]

RECIPE_NAME = "mergekit_config.yml"
LINEAGE_NAME = "miscible.json"


def write_merge(
    merge: VirtualCheckpoint,
    destination: Path,
    *,
    threads: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Written:
    """Write a merge as a model folder with its recipe, lineage and card.

    Local paths are left out of all three: they mean nothing to others and say where their author
    works. Models are told apart by short names, and identified by their contents.

    Args:
        merge: the merge.
        destination: a folder that does not exist, or is empty.
        threads: that compute; as many as there are processors if None.
        shard_bytes: of one file, at most.

    Raises:
        MiscibleError: see `miscible.merge.engine.write.write_streamed`.
    """
    public = public_names(merge.models)
    tokenizer = merge.tokenizer_files()

    def texts(shards: Mapping[str, ShardRecord], doses: Sequence[DoseRow]) -> Mapping[str, str]:
        recipe = _recipe(merge, public)
        lineage = _lineage(merge, public, shards, doses)
        return {
            **_without_places(merge.folder, tokenizer.texts),
            RECIPE_NAME: recipe,
            LINEAGE_NAME: json.dumps(lineage, indent=2) + "\n",
            CARD_NAME: card_of(merge, destination.name, recipe, public, doses),
        }

    return write_streamed(
        merge, destination, texts=texts, omitted=tuple(tokenizer.omitted), threads=threads,
        shard_bytes=shard_bytes,
    )  # fmt: skip


def _without_places(folder: Path, texts: Mapping[str, str]) -> dict[str, str]:
    # Libraries note in a tokenizer's settings from where it was once read.
    name = TOKENIZER_CONFIG
    try:
        text = texts[name] if name in texts else (folder / name).read_text()
        settings = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return dict(texts)
    if not isinstance(settings, dict) or "name_or_path" not in settings:
        return dict(texts)
    del settings["name_or_path"]
    return {**texts, name: json.dumps(settings, indent=2, ensure_ascii=False) + "\n"}


def _recipe(merge: VirtualCheckpoint, public: Mapping[str, str]) -> str:
    # Files of the author's machine are called by their last names.
    recipe = merge.recipe.renamed(public).with_file_names()
    held = "".join(
        f"#   {json.dumps(public[reference])}: {quick_key(model)}\n"
        for reference, model in merge.models.items()
    )
    return f"# Content keys of the models (miscible.json):\n{held}{recipe.to_yaml()}"


def _lineage(
    merge: VirtualCheckpoint,
    public: Mapping[str, str],
    shards: Mapping[str, ShardRecord],
    doses: Sequence[DoseRow],
) -> dict[str, object]:
    return {
        "miscible": __version__,
        "engine": ENGINE_VERSION,
        "key": merge.quick_key,
        "method": merge.plan.method.name,
        "seed": merge.seed if merge.plan.method.random else None,
        "device": merge.device,
        "models": {public[ref]: _identity(model) for ref, model in merge.models.items()},
        "shards": {name: {"xxh3_128": record.digest, "pieces": dict(record.pieces)}
                   for name, record in shards.items()},
        "doses": [
            {"parent": parent_name(d, public), "projection": _finite(d.projection),
             "coefficient": _finite(d.coefficient)}
            for d in doses
        ],
        "warnings": [published(w, merge.models, public) for w in merge.warnings],
    }  # fmt: skip


def _identity(model: Checkpoint) -> dict[str, object]:
    digests = {path.name: known_digest(path) for path in sorted(model.files)}
    return {
        "key": quick_key(model),
        "files": {
            path.name: {"bytes": model.files[path].size}
            | ({"sha256": digest} if (digest := digests[path.name]) else {})
            for path in sorted(model.files)
        },
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
