"""One model over one piece of calibration data: losses, mean hidden states, gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from miscible.errors import IncompatibleModelsError, MiscibleError
from miscible.measure.hidden_states import StateTaps
from miscible.models.checkpoint import Checkpoint
from miscible.models.finite import all_finite

Batch: TypeAlias = Mapping[str, torch.Tensor]
Array: TypeAlias = npt.NDArray[np.float64]


class Data(Protocol):
    """A piece of calibration data: `CalibrationSet` and `LabelledImages` are of this kind.

    Attributes:
        name: of the source.
        key: a content key.
        tokens: that flow through a model, 0 where inputs are no tokens.
        predictions: over which the mean loss is taken.
        head: model whose head every model wears for them; its own if empty.
    """

    @property
    def name(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def tokens(self) -> int: ...
    @property
    def predictions(self) -> int: ...
    @property
    def head(self) -> str: ...
    def __len__(self) -> int: ...


D = TypeVar("D", bound=Data, contravariant=True)


class Runner(Protocol[D]):
    """A model in memory that data of kind D flows through, and whose weights are replaced.

    Attributes:
        module: in evaluation mode, without gradients.
    """

    @property
    def module(self) -> Any: ...

    def fill(self, checkpoint: Checkpoint) -> None:
        """Take the weights of a checkpoint; raises `MiscibleError` if they do not fit."""
        ...

    def parameters(self, data: Sequence[D]) -> Mapping[str, torch.nn.Parameter]:
        """Return the parameters that all models have in common when run on *data*."""
        ...

    def batches(self, data: D) -> Iterator[Batch]:
        """Yield all of *data*, in order, as keyword arguments of the module."""
        ...

    def losses(self, batch: Batch) -> torch.Tensor:
        """Run the module; return the sum of the losses of each sample, [samples], in nats."""
        ...

    def input_tap(self) -> AbstractContextManager[Callable[[], torch.Tensor]]:
        """Inside, the returned function gives the input of the last run, with its gradient."""
        ...

    def input_size(self, data: D) -> int:
        """Return the number of elements of the input of all of *data*."""
        ...


class Sink(Protocol):
    """Where gradients go; called once a parameter, and once a batch for the input."""

    def parameter(self, name: str, values: npt.NDArray[np.floating]) -> None: ...
    def input(self, values: npt.NDArray[np.floating], start: int) -> None: ...


@dataclass(frozen=True, eq=False)
class Observation:
    """What one model makes of one piece of data.

    Attributes:
        losses: sum of the losses of each sample in nats, float64 [samples].
        states: mean over the tokens of each sample, float64 [samples, layers, width].
    """

    losses: Array
    states: Array


def observe(
    runner: Runner[D],
    data: D,
    *,
    layers: Sequence[int] = (-1,),
    parameters: Sequence[str] = (),
    inputs: bool = False,
    sink: Sink | None = None,
) -> Observation:
    """Run a model over *data* once, forwards and, if gradients are wanted, backwards.

    The gradients are those of the mean loss of *data*. They are accumulated in the parameters'
    dtype, in float32 if that is narrower.

    Args:
        layers: whose states are wanted, see `StateTaps`.
        parameters: whose gradients are wanted; they go into *sink*.
        inputs: whether the gradient with respect to the input is wanted.

    Raises:
        MiscibleError: if a loss, a state or a gradient is not finite.
    """
    taps = StateTaps(runner.module, layers)
    wanted = bool(parameters) or inputs
    losses: list[Array] = []
    states: list[Array] = []
    start = 0
    held = _Gradients(runner.parameters([data]), parameters)
    with (
        taps.on(),
        held.wanted(),
        torch.set_grad_enabled(wanted),
        runner.input_tap() if inputs else nullcontext(_no_input) as input_of,
    ):
        for batch in runner.batches(data):
            each = runner.losses(batch)
            losses.append(each.detach().cpu().double().numpy())
            if not np.isfinite(losses[-1]).all():
                raise MiscibleError(f"its loss on {data.name!r} is not finite.")
            if taps.layers:
                states.append(taps.take())
            if not wanted:
                continue
            (each.sum() / data.predictions).backward()  # type: ignore[no-untyped-call]
            if inputs and sink is not None:
                gradient = input_of().grad
                assert gradient is not None
                sink.input(_checked(gradient, f"the input of {data.name!r}"), start)
                start += gradient.numel()
        if sink is not None:
            for name, gradient in held.take():
                sink.parameter(name, _checked(gradient, name))
    pooled = np.concatenate(states) if states else np.zeros((len(data), 0, 0))
    if not np.isfinite(pooled).all():
        raise MiscibleError(f"its hidden states on {data.name!r} are not finite.")
    return Observation(np.concatenate(losses), pooled)


class _Gradients:
    """Gradients of some parameters while they are accumulated."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], names: Sequence[str]) -> None:
        missing = [name for name in names if name not in parameters]
        if missing:
            raise IncompatibleModelsError(f"it has no parameter {missing[0]!r}.")
        self._chosen = {name: parameters[name] for name in names}
        self._wide: dict[str, torch.Tensor] = {}

    @contextmanager
    def wanted(self) -> Iterator[None]:
        """Let gradients arise in the chosen parameters, for the time of the block."""
        hooks = []
        try:
            for name, parameter in self._chosen.items():
                parameter.requires_grad_(True)
                if parameter.element_size() < 4:
                    hook = self._widening(name)
                    hooks.append(parameter.register_post_accumulate_grad_hook(hook))  # type: ignore[no-untyped-call]
            yield
        finally:
            for each in hooks:
                each.remove()
            for parameter in self._chosen.values():
                parameter.requires_grad_(False)
                parameter.grad = None
            self._wide.clear()

    def take(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield name and gradient, and forget each; zeros where nothing depends on it."""
        for name, parameter in self._chosen.items():
            gradient = self._wide.pop(name, parameter.grad)
            parameter.grad = None
            yield name, torch.zeros_like(parameter) if gradient is None else gradient

    def _widening(self, name: str) -> Callable[[torch.Tensor], None]:
        def hook(parameter: torch.Tensor) -> None:
            assert parameter.grad is not None
            wide = parameter.grad.float()
            held = self._wide.get(name)
            self._wide[name] = wide if held is None else held.add_(wide)
            parameter.grad = None

        return hook


def _no_input() -> torch.Tensor:
    raise AssertionError("no input was caught")


def _checked(gradient: torch.Tensor, name: str) -> npt.NDArray[np.floating]:
    if not all_finite(gradient):
        raise MiscibleError(f"its gradient with respect to {name} is not finite.")
    wide = gradient if gradient.element_size() >= 4 else gradient.float()
    found: npt.NDArray[np.floating] = wide.detach().cpu().numpy()
    return found
