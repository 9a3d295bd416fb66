"""The laws that every merging method obeys."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from miscible.errors import MiscibleError
from miscible.merge.contract import METHODS, REQUIRED, Base, Deltas, Laws, MergeMethod
from miscible.merge.dense import merge_dense
from miscible.merge.recipe import Recipe, Source
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.adapters import AdaptedCheckpoint, LoraAdapter
from miscible.models.checkpoint import Checkpoint
from miscible.models.memory import MemoryCheckpoint

if TYPE_CHECKING:
    import torch

NAMES = ("embed_tokens.weight", "layers.0.mlp.weight", "layers.1.mlp.weight", "norm.weight")
SHAPES = ((7, 4), (6, 5), (6, 5), (5,))
ROUNDING = 4e-7
"""A few units in the last place of float32 at the size of the test tensors."""


def check_method(name: str, *, seed: int = 0) -> None:
    """Run every law on the registered method *name* with random tensors.

    Raises:
        AssertionError: naming the law that does not hold.
    """
    method = METHODS.get(name)
    for law in LAWS:
        law(method, seed)


def one_model_returns_it(method: MergeMethod, seed: int) -> None:
    """One model at weight 1 and density 1 is returned."""
    if method.least > 1 or Laws.ONE_MODEL in method.exempt:
        return
    merge = _merge(method, _models(seed, count=1))
    child = merge.models["m0"]
    for tensor in merge.tensors:
        _close(merge.read(tensor), child.read(tensor), f"{method.name}: one model", tensor)


def zero_deltas_return_the_base(method: MergeMethod, seed: int) -> None:
    """Models equal to the base give the base, bit for bit on deltas."""
    models = _models(seed)
    same = {reference: _renamed(models["base"], reference) for reference in models}
    merge = _merge(method, same)
    for tensor in merge.tensors:
        found, base = merge.read(tensor), models["base"].read(tensor)
        if method.space is Deltas:
            assert found.equal(base), f"{method.name}: zero deltas change {tensor}"
        _close(found, base, f"{method.name}: equal models", tensor)


def order_does_not_matter(method: MergeMethod, seed: int) -> None:
    """The order in which models are listed changes nothing."""
    if method.base is Base.FIRST or Laws.ORDER in method.exempt:
        return
    models = _models(seed)
    forward, backward = _merge(method, models), _merge(method, models, backwards=True)
    for tensor in forward.tensors:
        _close(forward.read(tensor), backward.read(tensor), f"{method.name}: order", tensor)


def order_of_reading_does_not_matter(method: MergeMethod, seed: int) -> None:
    """The same seed gives the same bytes, whatever was read before."""
    models = _models(seed)
    first, second = _merge(method, models), _merge(method, models)
    forward = {tensor: first.read(tensor) for tensor in first.tensors}
    for tensor in reversed(list(second.tensors)):
        assert second.read(tensor).equal(forward[tensor]), f"{method.name}: repeatable"
    if method.random:
        other = _merge(method, models, seed=1)
        assert any(not other.read(t).equal(forward[t]) for t in forward), f"{method.name}: seed"


def low_rank_equals_dense(method: MergeMethod, seed: int) -> None:
    """Adapters merge to what their dense forms merge to."""

    models = _models(seed)
    base = models["base"]
    adapted: dict[str, Checkpoint] = {"base": base}
    dense: dict[str, Checkpoint] = {"base": base}
    with TemporaryDirectory() as folder:
        for number, reference in enumerate(("m0", "m1")):
            adapter = _adapter(Path(folder) / reference, base, seed + number)
            child = AdaptedCheckpoint(base, adapter, name=reference)
            adapted[reference] = child
            dense[reference] = MemoryCheckpoint(
                reference, {tensor: child.read(tensor) for tensor in child.tensors}
            )
        _compare_low_rank(method, adapted, dense)


def _compare_low_rank(
    method: MergeMethod, adapted: Mapping[str, Checkpoint], dense: Mapping[str, Checkpoint]
) -> None:
    whole: dict[str, Any] = {}
    if method.random:
        if "density" not in method.parameters:
            return  # draws belong to a model's content, and these differ in it
        whole = {"density": 1.0}
    low = _merge(method, adapted, parameters=whole)
    full = _merge(method, dense, parameters=whole)
    for tensor in low.tensors:
        _close(low.read(tensor), full.read(tensor), f"{method.name}: low rank", tensor, 8)


def lambda_scales_the_delta(method: MergeMethod, seed: int) -> None:
    """The merged delta is proportional to `lambda`; doses are matched by it without merging."""
    if not method.linear_in_lambda:
        return
    models = _models(seed)
    whole = _merge(method, models)
    for factor in (-0.5, 0.0, 0.3, 2.0):
        part = _merge(method, models, parameters={"lambda": factor})
        for tensor in whole.tensors:
            base = models["base"].read(tensor)
            wanted = base + factor * (whole.read(tensor) - base)
            _close(part.read(tensor), wanted, f"{method.name}: lambda", tensor, 8)


def dtype_is_kept(method: MergeMethod, seed: int) -> None:
    """Equal dtypes stay, different ones are promoted."""
    import torch

    for dtypes, expected in (
        ((torch.bfloat16,) * 3, torch.bfloat16),
        ((torch.float16,) * 3, torch.float16),
        ((torch.float64,) * 3, torch.float64),
        ((torch.float16, torch.bfloat16, torch.bfloat16), torch.float32),
    ):
        models = dict(zip(("base", "m0", "m1"), dtypes, strict=True))  # dtype of each model
        made = {
            reference: MemoryCheckpoint(
                reference, {t: model.read(t, models[reference]) for t in model.tensors}
            )
            for reference, model in _models(seed).items()
        }
        merge = _merge(method, made)
        deltas = method.base in (Base.ORIGIN, Base.OPTIONAL)
        wanted = expected if deltas else _promoted(merge)
        for tensor in merge.tensors:
            assert merge.read(tensor).dtype == wanted, f"{method.name}: dtype"


def nan_is_an_error(method: MergeMethod, seed: int) -> None:
    """NaN or infinity in an input is an error that names model and tensor."""
    for value in (float("nan"), float("inf")):
        models = _models(seed)
        last = [reference for reference in _merge(method, models).models if reference != "base"][-1]
        broken = {t: models[last].read(t) for t in models[last].tensors}
        broken[NAMES[2]][0, 0] = value
        models[last] = MemoryCheckpoint(last, broken)
        merge = _merge(method, models)
        merge.read(NAMES[1])
        try:
            merge.read(NAMES[2])
        except MiscibleError as error:
            assert last in str(error), f"{method.name}: NaN"
            assert NAMES[2] in str(error), f"{method.name}: NaN"
        else:
            raise AssertionError(f"{method.name}: {value} passed unnoticed")


def streamed_equals_in_memory(method: MergeMethod, seed: int) -> None:
    """What is merged chunk by chunk is what the method makes of whole tensors."""
    merge = _merge(method, _models(seed))
    for tensor in merge.tensors:
        if merge.streams(tensor):
            output = merge.plan.outputs[tensor]
            whole = merge_dense(merge.inputs, output, merge.context(output))
            _close(merge.read(tensor), whole, f"{method.name}: streamed", tensor, 8)


LAWS: tuple[Callable[[MergeMethod, int], None], ...] = (
    one_model_returns_it,
    zero_deltas_return_the_base,
    order_does_not_matter,
    order_of_reading_does_not_matter,
    low_rank_equals_dense,
    lambda_scales_the_delta,
    dtype_is_kept,
    nan_is_an_error,
    streamed_equals_in_memory,
)


def _adapter(folder: Path, base: Checkpoint, seed: int) -> LoraAdapter:
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    factors, rank = {}, 2
    for tensor, info in base.tensors.items():
        if len(info.shape) == 2 and "embed" not in tensor:
            module = f"base_model.model.{tensor.removesuffix('.weight')}"
            outputs, inputs = info.shape
            factors[f"{module}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator)
            factors[f"{module}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator)
    folder.mkdir()
    save_file(factors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA", "r": rank, "lora_alpha": 1, "bias": "none", "fan_in_fan_out": False,
        "base_model_name_or_path": "base", "target_modules": ["weight"],
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return LoraAdapter(folder)


def _models(seed: int, count: int = 2) -> dict[str, Checkpoint]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    base = {n: torch.randn(*s, generator=generator) for n, s in zip(NAMES, SHAPES, strict=True)}
    models: dict[str, Checkpoint] = {"base": MemoryCheckpoint("base", base)}
    for i in range(count):
        state = {n: t + 0.3 * torch.randn(t.shape, generator=generator) for n, t in base.items()}
        models[f"m{i}"] = MemoryCheckpoint(f"m{i}", state)
    return models


def _merge(
    method: MergeMethod,
    models: Mapping[str, Checkpoint],
    *,
    backwards: bool = False,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
) -> VirtualCheckpoint:
    shared: dict[str, Any] = {
        name: 0.5
        for name, parameter in method.parameters.items()
        if parameter.default is REQUIRED and not parameter.per_model
    }
    count = len(models) - 1
    own = {
        name: 1.0
        for name, parameter in method.parameters.items()
        if parameter.default is REQUIRED and parameter.per_model
    }
    if method.random and count > 1 and "density" in method.parameters:
        shared["density"] = 0.5
    shared |= parameters or {}
    children = [reference for reference in models if reference != "base"]
    if method.most is not None:
        children = children[: method.most]
    recipe = Recipe(
        merge_method=method.name,
        models=[
            Source(model=reference, parameters=dict(own))
            for reference in (reversed(children) if backwards else children)
        ],
        base_model=_base(method, children),
        parameters=shared,
    )
    used = {reference: models[reference] for reference in recipe.references()}
    return VirtualCheckpoint(recipe, used, seed=seed)


def _base(method: MergeMethod, children: Sequence[str]) -> str | None:
    if method.base is Base.FIRST:
        return children[0]
    return None if method.base is Base.INPUT else "base"


def _renamed(model: Checkpoint, name: str) -> MemoryCheckpoint:
    return MemoryCheckpoint(name, {tensor: model.read(tensor) for tensor in model.tensors})


def _promoted(merge: VirtualCheckpoint) -> torch.dtype:
    import torch

    found = [model.read(NAMES[0]).dtype for model in merge.models.values()]
    promoted = found[0]
    for dtype in found[1:]:
        promoted = torch.promote_types(promoted, dtype)
    return promoted


def _close(
    found: torch.Tensor, wanted: torch.Tensor, law: str, tensor: str, factor: int = 1
) -> None:
    difference = (found.double() - wanted.double()).abs().max().item()
    scale = max(1.0, wanted.double().abs().max().item())
    assert difference <= factor * ROUNDING * scale, f"{law}: {tensor} differs by {difference:.2e}"
