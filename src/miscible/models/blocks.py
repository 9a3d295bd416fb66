"""The blocks of a transformers model, found by their number whatever they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from miscible.errors import IncompatibleModelsError

if TYPE_CHECKING:
    import torch


def depth(model: Any) -> int:
    """Return the number of blocks that the config states, which is the index of the last layer."""
    return int(getattr(model.config.get_text_config(), "num_hidden_layers", 0) or 0)


def stack_of_blocks(model: Any) -> tuple[torch.nn.Module, torch.nn.ModuleList]:
    """Return the list of a model's blocks and the module that runs them.

    Raises:
        IncompatibleModelsError: if there is no list of as many blocks as the config says.
    """
    import torch

    count = depth(model)
    for owner in model.modules():
        for module in owner.children():
            if isinstance(module, torch.nn.ModuleList) and len(module) == count > 0:
                return owner, module
    raise IncompatibleModelsError(
        f"no list of {count} blocks was found in the architecture {type(model).__name__}."
    )
