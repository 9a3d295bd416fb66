"""Virtual checkpoints: merges that are computed tensor by tensor when they are read.

A virtual merge has the interface of a checkpoint on disk. Whoever reads it in float32 gets what
the method computed; only writing it to a folder rounds it to the recipe's dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import IncompatibleModelsError, MiscibleError
from miscible.keys import content_key
from miscible.merge.contract import Deltas, Weights
from miscible.merge.degenerate import degeneracies
from miscible.merge.ops.random import ElementRandom
from miscible.merge.plan import Input, Output, plan_merge
from miscible.merge.recipe import Recipe
from miscible.merge.restack import restacked
from miscible.merge.tokenizer import check_chat_template, tokenizer_reference
from miscible.models.adapters import AdaptedCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.delta import LowRank
from miscible.models.formats.safetensors import SAFETENSORS_NAMES, TORCH_NAMES, TensorInfo
from miscible.models.ref import open_checkpoint

if TYPE_CHECKING:
    import torch

ENGINE_VERSION = 1
"""Part of every merge's fingerprint; raised when the same recipe would give other weights."""


class VirtualCheckpoint:
    """A merge as a checkpoint.

    Args:
        recipe: what to merge and how.
        models: every reference of the recipe, opened.
        name: how messages and tables call the merge.
        seed: of the methods that draw random numbers.
        device: where tensors are computed; results are returned on the CPU.

    Raises:
        RecipeError, UnknownNameError: if the recipe cannot be carried out.
        IncompatibleModelsError: if the models' tensors or vocabularies do not fit together.
    """

    def __init__(
        self,
        recipe: Recipe,
        models: Mapping[str, Checkpoint],
        *,
        name: str = "merge",
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.recipe, self.models, self.name = recipe, models, name
        self.seed, self.device = seed, device
        self.plan = plan_merge(recipe, models)
        check_chat_template(recipe)
        self._tokenizer = tokenizer_reference(recipe, models, self.plan.template)

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        *,
        name: str = "merge",
        seed: int = 0,
        device: str = "cpu",
        relative_to: Path | None = None,
    ) -> VirtualCheckpoint:
        """Open the models that a recipe names and plan the merge."""
        models = {
            reference: open_checkpoint(reference, relative_to=relative_to)
            for reference in recipe.references()
        }
        return cls(recipe, models, name=name, seed=seed, device=device)

    @property
    def folder(self) -> Path:
        """The folder of the model whose tokenizer the merge takes."""
        return self.models[self._tokenizer].folder

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what makes the merge less than its recipe looks like; reads fingerprints."""
        return tuple(degeneracies(self.recipe, self.plan.method, self.models))

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The template's config, with what the merge changes in it."""
        config = dict(self.models[self.plan.template].config)
        if self.plan.layer_origins is not None and "num_hidden_layers" in config:
            config |= restacked(config, self.plan.layer_origins, self.models)
        if self.plan.untied:
            config["tie_word_embeddings"] = False
        dtypes = {info.dtype for info in self.tensors.values() if info.floating}
        if len(dtypes) == 1:
            config.pop("torch_dtype", None)
            config["dtype"] = TORCH_NAMES[dtypes.pop()]
        return config

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {output.name: self._info(output) for output in self.plan.outputs.values()}

    @cached_property
    def fingerprint(self) -> str:
        """A content key of the weights: recipe, contents of the inputs, seed."""
        alias = {reference: model.fingerprint for reference, model in self.models.items()}
        # A fingerprint depends on what the models contain, not on where they lie.
        plain = self.recipe.renamed(alias).model_dump(
            exclude={"tokenizer_source", "tokenizer", "chat_template"}, exclude_none=True
        )
        return content_key(
            engine=ENGINE_VERSION,
            recipe=plain,
            seed=self.seed if self.plan.method.random else None,
        )

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Compute one tensor in float32 (float64 if an input is) and round it once.

        Raises:
            MiscibleError: if an input holds NaN or infinity; names model and tensor.
        """
        import torch

        output = self.plan.outputs.get(name)
        if output is None:
            raise IncompatibleModelsError(f"there is no tensor {name!r}.", where=self.name)
        target = dtype or getattr(torch, TORCH_NAMES[self.tensors[name].dtype])
        if not self.tensors[name].floating:
            return self._copy_equal(output).to(target)
        wide = self._wide(output)
        if self.plan.method.space is Weights:
            inputs = Weights(tuple(self._exact(i, wide) for i in output.inputs))
            return self._run(output, inputs).to("cpu", target)
        base, deltas = self._deltas(output, wide)
        return base.add_(self._run(output, deltas)).to("cpu", target)

    def low_rank_delta(self, name: str, base: Checkpoint) -> LowRank | None:
        """Return None: the engine keeps no factors of a merge."""
        return None

    def dose_reference(self) -> tuple[Checkpoint, dict[str, Checkpoint]]:
        """Return the model from which doses of the others are counted, and the others.

        It is the recipe's base; without one, the first model.
        """
        origin = self.recipe.base_model or next(iter(self.models))
        others = {ref: model for ref, model in self.models.items() if ref != origin}
        return self.models[origin], others

    def _run(self, output: Output, inputs: Weights | Deltas) -> torch.Tensor:
        method = self.plan.method
        if method.space is Deltas and all(not d.any() for d in inputs.tensors):
            return inputs.tensors[0]  # what no model changed stays as it is
        random = [
            ElementRandom(self.seed, self.models[i.model].fingerprint, output.name)
            for i in (output.inputs if method.random else ())
        ]
        return method(inputs, dict(output.values), random).tensor

    def _deltas(self, output: Output, wide: torch.dtype) -> tuple[torch.Tensor, Deltas]:
        assert output.origin is not None
        base = self._exact(output.origin, wide)
        return base, Deltas(tuple(self._delta(i, output.origin, base) for i in output.inputs))

    def _delta(self, source: Input, origin: Input, base: torch.Tensor) -> torch.Tensor:
        model, base_model = self.models[source.model], self.models[origin.model]
        if (
            isinstance(model, AdaptedCheckpoint)
            and source.tensor == origin.tensor
            and model.base.fingerprint == base_model.fingerprint
        ):
            low_rank = model.adapter.delta(source.tensor)
            if low_rank is None:
                return base.new_zeros(base.shape)
            return low_rank.dense(base.dtype).to(base.device)
        return self._exact(source, base.dtype) - base

    def _exact(self, source: Input, wide: torch.dtype) -> torch.Tensor:
        """Return an input in the wide dtype; a recipe's dtype rounds what is stored."""
        return self._stored(self.models[source.model], source.tensor, wide).to(self.device)

    def _stored(self, model: Checkpoint, name: str, wide: torch.dtype) -> torch.Tensor:
        import torch

        if isinstance(model, AdaptedCheckpoint):
            weight = self._stored(model.base, name, wide)
            delta = model.adapter.delta(name)
            return weight if delta is None else weight + delta.dense(wide)
        tensor = model.read(name)
        if not tensor.isfinite().all():
            raise MiscibleError(
                f"tensor {name!r} holds NaN or infinity.",
                where=model.name,
                fix="Its training or conversion failed; a merge would spread it.",
            )
        if self.recipe.dtype is not None:
            tensor = tensor.to(getattr(torch, self.recipe.dtype))
        # A copy even where nothing is converted: results are built in place.
        return tensor.to(wide, copy=True)

    def _wide(self, output: Output) -> torch.dtype:
        import torch

        double = any(self.models[i.model].tensors[i.tensor].dtype == "F64" for i in output.named)
        return torch.float64 if double else torch.float32

    def _info(self, output: Output) -> TensorInfo:
        import torch

        infos = [self.models[i.model].tensors[i.tensor] for i in output.named]
        kinds = {info.floating for info in infos}
        if kinds == {False}:
            return infos[0]
        if len(kinds) > 1:
            raise IncompatibleModelsError(
                f"tensor {output.name!r} is floating in some models and not in others."
            )
        chosen = self.recipe.out_dtype or self.recipe.dtype
        if chosen is not None:
            return TensorInfo(SAFETENSORS_NAMES[chosen], infos[0].shape)
        promoted: torch.dtype = getattr(torch, TORCH_NAMES[infos[0].dtype])
        for info in infos[1:]:
            promoted = torch.promote_types(promoted, getattr(torch, TORCH_NAMES[info.dtype]))
        return TensorInfo(SAFETENSORS_NAMES[str(promoted).removeprefix("torch.")], infos[0].shape)

    def _copy_equal(self, output: Output) -> torch.Tensor:
        first, *others = [self.models[i.model].read(i.tensor) for i in output.inputs]
        if any(not first.equal(other) for other in others):
            raise IncompatibleModelsError(
                f"tensor {output.name!r} is not floating and differs between the models."
            )
        return first
