"""A model's final norm and output layer, kept apart from the model: the logit lens itself."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from miscible.errors import IncompatibleModelsError
from miscible.models.blocks import depth, stack_of_blocks

if TYPE_CHECKING:
    import torch

_TOLERANCE = {"float64": 1e-6, "float32": 1e-3}
_HALF_TOLERANCE = 5e-2
_TRIAL_TOKENS = 4


@dataclass(frozen=True, eq=False)
class Lens:
    """A copy of a model's final norm and output layer; the model's weights may change afterwards.

    Attributes:
        norm: the final norm, in float32 (float64 for a model in that).
        weight: output layer, [vocabulary, width], in the model's dtype.
        bias: [vocabulary], if it has one.
        last: index of the last layer, whose states the norm has seen already.
        factor: what the model multiplies its logits by.
        cap: then the model's logits are ``cap tanh(logits / cap)``; None for no such cap.
    """

    norm: torch.nn.Module
    weight: torch.Tensor
    bias: torch.Tensor | None
    last: int
    factor: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, model: Any) -> Lens:
        """Return the lens of a transformers model as its weights are now.

        The norm is found by what it does, not by its name, in one pass over a few tokens: of the
        modules beside the blocks, the one whose output reaches the output layer. The same pass
        checks that the lens gives the model's own logits.

        Raises:
            IncompatibleModelsError: no output layer (an encoder), or more than a final norm between
                the blocks and it, or an architecture that is not one stack of blocks.
        """
        import torch

        name = type(model).__name__
        head = model.get_output_embeddings()
        weight = getattr(head, "weight", None)
        if weight is None or weight.ndim != 2 or not weight.is_floating_point():
            raise IncompatibleModelsError(
                f"{name} has no output layer over a vocabulary, so it has no logit lens.",
                fix="Take a causal language model.",
            )
        if model.config.is_encoder_decoder:
            raise IncompatibleModelsError(f"{name} has an encoder and a decoder: no logit lens.")
        trial = _Trial.run(model)
        bias = getattr(head, "bias", None)
        text = model.config.get_text_config()
        cap = getattr(text, "final_logit_softcapping", None)
        precise = torch.float64 if weight.dtype == torch.float64 else torch.float32
        with torch.no_grad():
            lens = cls(
                norm=copy.deepcopy(trial.norm).to(precise).requires_grad_(False),
                weight=weight.detach().clone(),
                bias=None if bias is None else bias.detach().clone(),
                last=depth(model),
                factor=getattr(text, "logit_scale", None)
                or 1 / (getattr(text, "logits_scaling", None) or 1.0),
                cap=cap or None,
            )
        lens._check(trial, name)
        return lens

    def logits(self, states: torch.Tensor, layer: int) -> torch.Tensor:
        """Return the logits of *states*, [positions, width], in float32: [positions, vocabulary].

        Raises:
            ValueError: a layer beyond the last.
        """
        import torch

        if not 0 <= layer <= self.last:
            raise ValueError(f"there is no layer {layer}; the last is {self.last}")
        precise = torch.float64 if self.weight.dtype == torch.float64 else torch.float32
        states = states.to(self.weight.device, precise)
        if layer < self.last:
            states = self.norm(states)
        logits = states.new_empty(len(states), len(self.weight))
        # A piece of a half-precision output layer at a time is turned into float32.
        rows = len(self.weight) if self.weight.dtype == precise else 2**13
        for start in range(0, len(self.weight), rows):
            piece = self.weight[start : start + rows].to(precise)
            torch.matmul(states, piece.T, out=logits[:, start : start + rows])
        if self.bias is not None:
            logits += self.bias.to(precise)
        logits *= self.factor
        if self.cap is not None:
            logits.div_(self.cap).tanh_().mul_(self.cap)
        return logits

    def _check(self, trial: _Trial, name: str) -> None:
        # A model in a narrow dtype rounds; a step that is missing makes a greater difference.
        kind = str(self.weight.dtype).removeprefix("torch.")
        tolerance = _TOLERANCE.get(kind, _HALF_TOLERANCE)
        for states, layer in ((trial.plain, 0), (trial.normalised, self.last)):
            error = (self.logits(states, layer) - trial.logits).abs().max()
            if not error <= tolerance * trial.logits.abs().max():
                raise IncompatibleModelsError(
                    f"the logits of {name} are not its output layer applied to its final norm, so "
                    "it has no logit lens."
                )


@dataclass(frozen=True, eq=False)
class _Trial:
    """One pass over a few tokens: the final norm, and what it was given and gave.

    Attributes:
        norm: the final norm; an identity if the model has none.
        plain, normalised: states before and after it, [tokens, width].
        logits: [tokens, vocabulary].
    """

    norm: torch.nn.Module
    plain: torch.Tensor
    normalised: torch.Tensor
    logits: torch.Tensor

    @classmethod
    def run(cls, model: Any) -> _Trial:
        import torch

        owner, blocks = stack_of_blocks(model)
        gave: dict[torch.nn.Module, Any] = {}
        reached: list[torch.Tensor] = []

        def keep(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
            gave[module] = output[0] if isinstance(output, tuple) and output else output

        def reach(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
            reached.append(args[0])

        beside = [child for child in owner.children() if child is not blocks]
        with ExitStack() as hooks, torch.no_grad():
            for module in (*beside, blocks[-1]):
                hooks.callback(module.register_forward_hook(keep).remove)
            head = model.get_output_embeddings()
            hooks.callback(head.register_forward_pre_hook(reach).remove)
            ids = torch.arange(_TRIAL_TOKENS, device=model.device)[None]
            logits = model(input_ids=ids).logits[0]
        last, normalised = gave.pop(blocks[-1]), reached[-1]
        norms = [module for module, output in gave.items() if _same(output, normalised)]
        if _same(last, normalised):
            norms = [torch.nn.Identity()]
        if not norms or not isinstance(last, torch.Tensor):
            raise IncompatibleModelsError(
                f"in the architecture {type(model).__name__} more than a final norm stands "
                "between the blocks and the output layer, so it has no logit lens."
            )
        return cls(norms[0], last[0], normalised[0], logits)


def _same(first: object, second: torch.Tensor) -> bool:
    import torch

    return isinstance(first, torch.Tensor) and first.equal(second)
