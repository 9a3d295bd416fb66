"""Hooks that see what flows through a model's weights, for any `torch.nn.Module`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from miscible.errors import MiscibleError

ROWS_AT_ONCE = 1024
"""Inputs of a layer that are gathered before they enter its matrix, which is read and written for
each addition: at the width of large models that would cost more than the model itself."""


class GramHook:
    """Sums x x' over the inputs x of every linear layer.

    Linear layers are `nn.Linear`, whose weight is [out, in], and GPT-2's ``Conv1D``, whose weight
    is [in, out]. A layer whose weight belongs to another module (a tied head) is left out.

    Attributes:
        mask: bool [examples, tokens], the tokens to count; None counts all. A layer that
            rearranges its tokens cannot be masked and raises an error if any are to be left out.
    """

    def __init__(self, model: nn.Module, names: Collection[str] | None = None) -> None:
        """Watch the linear layers of *model*, or only those whose weights are in *names*."""
        self.mask: torch.Tensor | None = None
        layers = linear_layers(model)
        self._layers = {n: layer for n, layer in layers.items() if names is None or n in names}
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self._rows: dict[str, list[torch.Tensor]] = {}  # not yet in the sums

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the model runs inside this block."""
        handles = [
            module.register_forward_pre_hook(self._observer(name), with_kwargs=True)
            for name, module in self._layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def grams(self) -> dict[str, torch.Tensor]:
        """Return E[x x'] a weight that was reached, float32 on the CPU.

        Shapes are [in, in], and [1, in, in] where the weight is [in, out].

        Raises:
            MiscibleError: if a layer received NaN or infinity.
        """
        found = {}
        for name in list(self._rows):
            self._add(name)
        for name, total in self._sums.items():
            if not total.isfinite().all():
                raise MiscibleError(
                    f"the inputs of {name!r} are not finite.", fix="Run the model in float32."
                )
            gram = (total / max(self._counts[name], 1)).cpu()
            found[name] = gram if isinstance(self._layers[name], nn.Linear) else gram.unsqueeze(0)
        return found

    def _observer(self, name: str) -> Any:
        def observe(
            module: nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]
        ) -> None:
            inputs = (*args, *kwargs.values())[0].detach()
            rows = self._rows.setdefault(name, [])
            # Cloned, since the model may change its inputs in place afterwards.
            rows.append(self._counted(name, inputs).clone())
            if sum(map(len, rows)) >= ROWS_AT_ONCE:
                self._add(name)

        return observe

    def _add(self, name: str) -> None:
        rows = torch.cat(self._rows.pop(name)).float()
        if name not in self._sums:
            self._sums[name] = rows.new_zeros(rows.shape[1], rows.shape[1])
        self._sums[name].addmm_(rows.T, rows)
        self._counts[name] = self._counts.get(name, 0) + len(rows)

    def _counted(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        rows = inputs.reshape(-1, inputs.shape[-1])
        if self.mask is None or bool(self.mask.all()):
            return rows
        if inputs.shape[:-1] != self.mask.shape and rows.shape[0] != self.mask.numel():
            raise MiscibleError(
                f"the padding of a batch cannot be told apart in the inputs of {name!r}.",
                fix="Give batches without padding.",
            )
        return rows[self.mask.flatten()]


class SquaredGradientHook:
    """Sums the squared gradients of every parameter, one backward pass an example.

    Gradients are squared and freed as soon as each is known, so that at no time all of them exist.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.is_floating_point()
        }
        self._sums = {
            name: torch.zeros(parameter.shape, device=parameter.device)
            for name, parameter in self._parameters.items()
        }

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while backward passes run inside this block; parameters need gradients only then.

        Gradients that parameters had before are lost.
        """
        needed = {name: p.requires_grad for name, p in self._parameters.items()}
        handles = []
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(True)
            parameter.grad = None
            register: Any = parameter.register_post_accumulate_grad_hook
            handles.append(register(self._observer(name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for name, parameter in self._parameters.items():
                parameter.requires_grad_(needed[name])
                parameter.grad = None

    def mean(self, examples: int) -> dict[str, torch.Tensor]:
        """Return the mean squared gradient of every parameter, float32 on the CPU.

        Raises:
            MiscibleError: if a gradient was not finite.
        """
        for name, total in self._sums.items():
            if not total.isfinite().all():
                raise MiscibleError(
                    f"the gradient of {name!r} is not finite.", fix="Run the model in float32."
                )
        return {name: (total / max(examples, 1)).cpu() for name, total in self._sums.items()}

    def _observer(self, name: str) -> Any:
        def observe(parameter: torch.Tensor) -> None:
            assert parameter.grad is not None
            gradient = parameter.grad.float()
            self._sums[name].addcmul_(gradient, gradient)
            parameter.grad = None

        return observe


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the linear layers of *model* by the names of their weights in its state dict."""
    own = {name for name, _ in model.named_parameters()}  # a shared weight has one name in it
    named = {f"{path}.weight".lstrip("."): module for path, module in model.named_modules()}
    return {name: module for name, module in named.items() if name in own and _is_linear(module)}


def _is_linear(module: nn.Module) -> bool:
    if isinstance(module, nn.Linear):
        return True
    # Told by name, so that models without transformers need no import of it.
    weight = getattr(module, "weight", None)
    return type(module).__name__ == "Conv1D" and isinstance(weight, nn.Parameter)


def named_stack(model: nn.Module, prefix: str) -> Sequence[tuple[str, nn.Module]]:
    """Return the layers that a container of *model* holds, by the prefix of their tensors' names.

    Args:
        model: any module.
        prefix: what precedes the layers' numbers in names, ``model.layers.`` or empty.
    """
    container = model.get_submodule(prefix.removesuffix("."))
    return [(f"{prefix}{child}.", layer) for child, layer in container.named_children()]
