"""Virtual checkpoints: merges that are computed tensor by tensor when they are read.

A virtual merge has the interface of a checkpoint on disk. Whoever reads it in float32 gets what
the method computed; only writing it to a folder rounds it to the recipe's dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import IncompatibleModelsError
from miscible.keys import content_key
from miscible.merge.contract import Context
from miscible.merge.degenerate import degeneracies
from miscible.merge.dense import copy_of_equals, merge_dense
from miscible.merge.inputs import Inputs, does_not_fit, torch_dtype
from miscible.merge.opening import Opened, open_recipe
from miscible.merge.ops.random import ElementRandom
from miscible.merge.plan import Output
from miscible.merge.planner import plan_merge
from miscible.merge.recipe import Recipe
from miscible.merge.restack import restacked
from miscible.merge.tokenizer import (
    TokenizerFiles,
    check_chat_template,
    tokenizer_files,
    tokenizer_reference,
    vocabulary_config,
)
from miscible.models.checkpoint import Checkpoint, FileState
from miscible.models.delta import LowRank
from miscible.models.fingerprint import quick_key
from miscible.models.formats.safetensors import (
    SAFETENSORS_NAMES,
    TORCH_NAMES,
    Extent,
    TensorInfo,
    promoted,
)

if TYPE_CHECKING:
    import torch

    from miscible.merge.engine.passes import Pool, Seen, Write
    from miscible.merge.engine.sources import OpenFiles

ENGINE_VERSION = 2
"""Part of every merge's fingerprint; raised when the same recipe would give other weights."""


class VirtualCheckpoint:
    """A merge as a checkpoint.

    Args:
        recipe: what to merge and how.
        models: every reference of the recipe, opened.
        name: how messages and tables call the merge.
        seed: of the methods that draw random numbers.
        device: where tensors are computed; results are returned on the CPU.
        opened: statistics and coefficients that the recipe names, opened.

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
        opened: Opened | None = None,
    ) -> None:
        from miscible.merge.embeddings import align

        self.recipe, self.models, self.name = recipe, models, name
        self.seed, self.device = seed, device
        self.opened = opened or Opened(models)
        template = recipe.base_model or recipe.sources()[0].model
        self.alignment = align(recipe, models, template)
        self.inputs = Inputs(models, dtype=recipe.dtype, alignment=self.alignment, device=device)
        self.plan = plan_merge(
            recipe, models, shape=self.inputs.shape, coefficients=self.opened.coefficients
        )
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
        """Open the models and files that a recipe names and plan the merge."""
        opened = open_recipe(recipe, relative_to)
        return cls(recipe, opened.models, name=name, seed=seed, device=device, opened=opened)

    @property
    def folder(self) -> Path:
        """The folder of the model whose tokenizer the merge takes."""
        return self.models[self._tokenizer].folder

    @property
    def files(self) -> Mapping[Path, FileState]:
        """All files that are read."""
        return {
            path: state for model in self.models.values() for path, state in model.files.items()
        }

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what makes the merge less than its recipe looks like."""
        found = list(degeneracies(self.recipe, self.plan.method, self.models, self._same_weights))
        if self.plan.partial:
            more = ", ..." if len(self.plan.partial) > 3 else ""
            found.append(
                f"{len(self.plan.partial)} tensors are in only some of the models and are merged "
                f"over those that have them ({', '.join(self.plan.partial[:3])}{more})."
            )
        found += self.opened.warnings(self.plan.outputs)
        return (*found, *(self.alignment.warnings if self.alignment else ()))

    def _same_weights(self, one: Checkpoint, other: Checkpoint) -> bool:
        return (bool(one.files) and one.files == other.files) or quick_key(one) == quick_key(other)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The template's config, with what the merge changes in it."""
        config = dict(self.models[self.plan.template].config)
        config.pop("_name_or_path", None)  # where the template was once read from
        if self.plan.layer_origins is not None and "num_hidden_layers" in config:
            config |= restacked(config, self.plan.layer_origins, self.models)
        if self.plan.untied:
            config["tie_word_embeddings"] = False
        if self.alignment is not None:
            config = dict(
                vocabulary_config(
                    config, self.models, self.plan.template, self._tokenizer, self.alignment
                )
            )
        dtypes = {info.dtype for info in self.tensors.values() if info.floating}
        if len(dtypes) == 1:
            config.pop("torch_dtype", None)
            config["dtype"] = TORCH_NAMES[dtypes.pop()]
        return config

    def tokenizer_files(self) -> TokenizerFiles:
        """Return how the merge's tokenizer files differ from those in `folder`."""
        return tokenizer_files(self.recipe, self.models, self._tokenizer, self.alignment)

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {output.name: self._info(output) for output in self.plan.outputs.values()}

    @cached_property
    def fingerprint(self) -> str:
        """A content key of the weights: recipe, contents of the inputs, seed."""
        return self._key({ref: model.fingerprint for ref, model in self.models.items()})

    @cached_property
    def quick_key(self) -> str:
        """The fingerprint by samples of the inputs' contents, which costs no time."""
        return self._key(self._model_keys)

    @cached_property
    def _model_keys(self) -> Mapping[str, str]:
        return {reference: quick_key(model) for reference, model in self.models.items()}

    def _key(self, alias: Mapping[str, str]) -> str:
        # A fingerprint depends on what the models contain, not on where they lie.
        plain = self.recipe.renamed(alias).with_file_names().model_dump(
            exclude={"tokenizer_source", "tokenizer", "chat_template", "coefficients"},
            exclude_none=True, exclude_defaults=True,
        )  # fmt: skip
        return content_key(
            engine=ENGINE_VERSION,
            recipe=plain,
            seed=self.seed if self.plan.method.random else None,
            alignment=None if self.alignment is None else self.alignment.key,
            opened=self.opened.key,
        )

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Compute one tensor in float32 (float64 if an input is) and round it once.

        Raises:
            MiscibleError: if an input holds NaN or infinity, or the result does not fit its dtype;
                names model and tensor.
        """
        import torch

        from miscible.merge.engine.tensor import STREAMED, can_stream

        output = self._output(name)
        info = self.tensors[name]
        target = dtype or torch_dtype(info.dtype)
        if not info.floating:
            return copy_of_equals(self.inputs, output).to(target)
        stored = SAFETENSORS_NAMES[str(target).removeprefix("torch.")]
        if stored in STREAMED and can_stream(self.inputs, output):
            result = torch.empty(info.shape, dtype=target)
            self.stream_into(result, name)
            return result
        merged = merge_dense(self.inputs, output, self.context(output)).to("cpu", target)
        if not merged.isfinite().all():
            raise does_not_fit(name, str(target).removeprefix("torch."))
        return merged

    def stream_into(self, tensor: torch.Tensor, name: str) -> None:
        """Compute one tensor that can be streamed into *tensor*, contiguous and on the CPU."""
        import torch

        from miscible.merge.engine.sources import OpenFiles

        flat = tensor.flatten().view(torch.uint8).numpy()
        width = tensor.element_size()

        def write(start: int, data: memoryview) -> None:
            flat[start * width : start * width + len(data)] = data

        with OpenFiles() as files:
            stored = SAFETENSORS_NAMES[str(tensor.dtype).removeprefix("torch.")]
            self.stream(name, write, files, dtype=stored)

    def stream(
        self,
        name: str,
        write: Write,
        files: OpenFiles,
        *,
        dtype: str | None = None,
        pool: Pool | None = None,
        seen: Seen | None = None,
    ) -> None:
        """Compute one tensor and hand its bytes to *write* in chunks, in any order."""
        from miscible.merge.engine.tensor import STREAMED, can_stream, show_tensor, stream_tensor

        output, info = self._output(name), self.tensors[name]
        stored = dtype or info.dtype
        if stored in STREAMED and can_stream(self.inputs, output):
            stream_tensor(
                self.inputs, output, self.context(output), stored, files, write,
                pool=pool, seen=seen,
            )  # fmt: skip
            return
        import torch

        tensor = self.read(name).contiguous()
        if not info.nbytes:
            return
        data = tensor.flatten().view(torch.uint8).numpy().data
        if seen is not None:
            show_tensor(self.inputs, output, data, info.dtype, files, seen)
        write(0, data)

    def streams(self, name: str) -> bool:
        """Return whether a tensor is computed chunk by chunk."""
        from miscible.merge.engine.tensor import STREAMED, can_stream

        stored = self.tensors[name].dtype
        return stored in STREAMED and can_stream(self.inputs, self._output(name))

    def low_rank_delta(self, name: str, base: Checkpoint) -> LowRank | None:
        """Return the exact factors of a sum of adapters of *base*, None for any other merge."""
        from miscible.merge.exact_sum import factors_of_sum

        output = self._output(name)
        return factors_of_sum(self.inputs, output, self.context(output), base)

    def extent(self, name: str) -> tuple[Path, Extent] | None:
        """Return None: a merge lies in no file."""
        return None

    def dose_reference(self) -> tuple[Checkpoint, dict[str, Checkpoint]]:
        """Return the model from which doses of the others are counted, and the others.

        It is the recipe's base; without one, the first model.
        """
        origin = self.recipe.base_model or next(iter(self.models))
        others = {ref: model for ref, model in self.models.items() if ref != origin}
        return self.models[origin], others

    def _output(self, name: str) -> Output:
        output = self.plan.outputs.get(name)
        if output is None:
            raise IncompatibleModelsError(f"there is no tensor {name!r}.", where=self.name)
        return output

    def context(self, output: Output) -> Context:
        """Return what the method of an output is offered besides its inputs."""
        random: tuple[ElementRandom, ...] = ()
        if output.method.random:
            random = tuple(
                ElementRandom(self.seed, self._model_keys[i.model], output.name)
                for i in output.inputs
            )
        statistics = self.opened.statistics_of(output) if output.method.needs else ()
        return Context(output.site, random, statistics)

    def _info(self, output: Output) -> TensorInfo:
        infos = [self.models[i.model].tensors[i.tensor] for i in output.named]
        kinds = {info.floating for info in infos}
        if kinds == {False}:
            return infos[0]
        if len(kinds) > 1:
            raise IncompatibleModelsError(
                f"tensor {output.name!r} is floating in some models and not in others."
            )
        chosen = self.recipe.out_dtype or self.recipe.dtype
        dtype = SAFETENSORS_NAMES[chosen] if chosen else promoted([info.dtype for info in infos])
        return TensorInfo(dtype, self.inputs.shape(output.named[0]))
