"""Mean hidden states, pooled in float64 where they arise: no layer's states are kept whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from miscible.errors import MiscibleError
from miscible.models.blocks import stack_of_blocks


class StateTaps:
    """Hooks on a model's blocks that keep the mean over tokens of what flows through.

    Layer 0 is what the first block receives, layer i what block i hands on, before any norm that
    comes after the last block.

    Args:
        module: a model of transformers.
        layers: indices; negative ones count from the last.

    Raises:
        IncompatibleModelsError: if the blocks cannot be found.
        MiscibleError: if there is no such layer.
    """

    def __init__(self, module: Any, layers: Sequence[int]) -> None:
        self._blocks: Sequence[torch.nn.Module] = list(stack_of_blocks(module)[1]) if layers else []
        last = len(self._blocks)
        for layer in layers:
            if not -last - 1 <= layer <= last:
                raise MiscibleError(f"there is no layer {layer}.", fix=f"Layers: 0 to {last}.")
        self.layers = tuple(layer % (last + 1) for layer in layers)
        self._pooled: dict[int, torch.Tensor] = {}

    @contextmanager
    def on(self) -> Iterator[None]:
        """Install the hooks for the time of the block."""
        with ExitStack() as stack:
            for layer in set(self.layers):
                if layer:
                    hook = self._blocks[layer - 1].register_forward_hook(self._behind(layer))
                else:
                    hook = self._blocks[0].register_forward_pre_hook(self._before, with_kwargs=True)
                stack.callback(hook.remove)
            yield

    def take(self) -> npt.NDArray[np.float64]:
        """Return the states of the last batch, [samples, layers, width], and forget them."""
        held = [self._pooled[layer].cpu().double().numpy() for layer in self.layers]
        self._pooled.clear()
        return np.stack(held, axis=1)

    def _behind(self, layer: int) -> Any:
        def hook(module: Any, args: tuple[Any, ...], output: Any) -> None:
            self._pool(layer, output if isinstance(output, torch.Tensor) else output[0])

        return hook

    def _before(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._pool(0, args[0] if args else kwargs["hidden_states"])

    def _pool(self, layer: int, states: torch.Tensor) -> None:
        # No float64 on Apple's devices: there a mean of a few hundred tokens is rounded to float32.
        dtype = torch.float32 if states.device.type == "mps" else torch.float64
        self._pooled[layer] = states.detach().flatten(1, -2).mean(dim=1, dtype=dtype)
