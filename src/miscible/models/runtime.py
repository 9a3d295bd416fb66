"""What besides the weights decides what a model computes: its config and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from miscible.keys import content_key
from miscible.models.checkpoint import Checkpoint
from miscible.models.fingerprint import digest_of
from miscible.models.tokenizer import TOKENIZER_FILES

NOT_COMPUTED_WITH = frozenset(
    {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache",
     "auto_map", "_commit_hash", "_attn_implementation"}
)  # fmt: skip
"""Keys of a config that change no output."""


def runtime_key(checkpoint: Checkpoint) -> str:
    """Return a content key of the config and the tokenizer files; equal keys can share a model."""
    files = (checkpoint.folder / name for name in TOKENIZER_FILES)
    return content_key(
        config=computed_with(checkpoint),
        files={path.name: digest_of(path) for path in files if path.is_file()},
    )


def computed_with(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the part of a config on which outputs depend."""
    return {k: v for k, v in checkpoint.config.items() if k not in NOT_COMPUTED_WITH}


def config_differences(models: Sequence[Checkpoint]) -> Mapping[str, tuple[Any, ...]]:
    """Return the config keys in which models differ, with each model's value."""
    configs = [computed_with(model) for model in models]
    keys = dict.fromkeys(key for config in configs for key in config)
    found = {key: tuple(config.get(key) for config in configs) for key in keys}
    return {k: v for k, v in found.items() if any(value != v[0] for value in v)}
