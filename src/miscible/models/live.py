"""One model in memory whose weights are swapped: a sweep loads the architecture once."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from miscible.errors import CheckpointError, IncompatibleModelsError, MiscibleError
from miscible.models.checkpoint import Checkpoint
from miscible.models.finite import all_finite
from miscible.models.quiet import quiet_transformers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

DTYPES = ("float32", "bfloat16", "float16", "float64")
RANDOM_WEIGHTS = "random weights"
"""Name of a model that was never trained."""


class LiveModel:
    """A causal language model on a device; build it with `load`, change its weights with `swap`.

    Attributes:
        model: in evaluation mode, on *device*, in *dtype*.
        tokenizer: a fast tokenizer (it gives character offsets).
        name, fingerprint: of the checkpoint whose weights it holds now.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, checkpoint: Checkpoint
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = checkpoint.name
        self.fingerprint = checkpoint.fingerprint

    @property
    def device(self) -> torch.device:
        return cast("torch.device", self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        return cast("torch.dtype", self.model.dtype)

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, *, dtype: str = "float32", device: str = "cpu"
    ) -> LiveModel:
        """Build the architecture of *checkpoint*'s config and fill it with its weights.

        Code from a model's repository is never run.

        Raises:
            MiscibleError: for an unknown dtype or device.
            CheckpointError: if config or tokenizer cannot be read.
            IncompatibleModelsError: if the tensors do not fit the config.
        """
        chosen, place = parse_dtype(dtype), parse_device(device)
        with quiet_transformers():
            try:
                tokenizer = load_tokenizer(checkpoint)
                model, computed = _build(checkpoint, chosen, place)
                if computed is not None:
                    _match_names(checkpoint, dict(model.state_dict()))  # before memory is taken
                    model = model.to_empty(device=place)
                    model.tie_weights()
                    for module, name, buffer in computed:
                        module.register_buffer(name, buffer.to(place), persistent=False)
            except MiscibleError:
                raise
            # A config from a stranger can make transformers fail in any way at all.
            except Exception as error:
                raise CheckpointError(
                    f"transformers cannot load it: {_first_line(error)}", where=checkpoint.name
                ) from error
        live = cls(model.eval().requires_grad_(False), tokenizer, checkpoint)
        live.swap(checkpoint)
        return live

    def swap(self, checkpoint: Checkpoint) -> None:
        """Fill the model with the weights of another checkpoint of the same architecture.

        Tensors are read one at a time in the model's dtype, so a virtual merge is never rounded
        to the dtype in which its parents are stored.

        Raises:
            IncompatibleModelsError: if tensors are missing, unknown, or of another shape, or if
                two that the architecture ties differ.
            MiscibleError: if a tensor is not finite in the model's dtype.
        """
        import torch

        places = dict(self.model.state_dict(keep_vars=True))
        matched = _match_names(checkpoint, places)
        _refuse_missing(checkpoint, places, matched)
        self.fingerprint = ""  # until every tensor is in, the weights are of no model
        filled: dict[int, str] = {}
        with torch.no_grad():
            for name, target in matched.items():
                if not target.numel():
                    continue
                tensor = checkpoint.read(name, target.dtype)
                if not all_finite(tensor):
                    raise _not_finite(checkpoint, name, target.dtype)
                twin = filled.setdefault(target.data_ptr(), name)
                if twin == name:
                    target.data.copy_(tensor)
                elif not target.data.cpu().equal(tensor.cpu()):
                    raise _untied(checkpoint, twin, name)
        self.name, self.fingerprint = checkpoint.name, checkpoint.fingerprint

    def randomise(self, seed: int) -> None:
        """Fill the model with the random weights that training starts from: a control for probes.

        Raises:
            IncompatibleModelsError: if the architecture cannot be built from its config alone.
        """
        import torch
        from transformers import AutoModelForCausalLM

        with torch.random.fork_rng(devices=[]), quiet_transformers():
            torch.manual_seed(seed)
            fresh = AutoModelForCausalLM.from_config(self.model.config, dtype=torch.float32)
        self.fingerprint = ""
        places = self.model.state_dict()
        with torch.no_grad():
            for name, tensor in fresh.state_dict().items():
                places[name].copy_(tensor)
        self.name, self.fingerprint = RANDOM_WEIGHTS, f"random:{seed}"


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerFast:
    """Return the fast tokenizer of a model.

    Raises:
        CheckpointError: if it cannot be read, or there is none.
    """
    from transformers import AutoTokenizer

    try:  # files from a stranger can make transformers fail in any way at all
        with quiet_transformers():
            found = AutoTokenizer.from_pretrained(str(checkpoint.folder), trust_remote_code=False)
    except Exception as error:
        raise CheckpointError(
            f"transformers cannot load its tokenizer: {_first_line(error)}", where=checkpoint.name
        ) from error
    if not getattr(found, "is_fast", False):
        raise CheckpointError("the model has no fast tokenizer.", where=checkpoint.name)
    return cast("PreTrainedTokenizerFast", found)


def parse_dtype(name: str) -> torch.dtype:
    """Return the torch dtype of that name.

    Raises:
        MiscibleError: if it is not a floating dtype that models run in.
    """
    import torch

    if name not in DTYPES:
        raise MiscibleError(f"{name!r} is not a dtype.", fix=f"Use one of {', '.join(DTYPES)}.")
    return cast("torch.dtype", getattr(torch, name))


def parse_device(name: str) -> torch.device:
    """Return the torch device of that name (``cpu``, ``cuda``, ``cuda:1``, ``mps``).

    Raises:
        MiscibleError: if there is no such device on this machine.
    """
    import torch

    kind = name.split(":", 1)[0]
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(kind, False):
        known = ", ".join(device for device, there in present.items() if there)
        raise MiscibleError(f"there is no device {name!r} here.", fix=f"Available: {known}.")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise MiscibleError(f"{name!r} is not a device.") from error


def _match_names(
    checkpoint: Checkpoint, places: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    matched: dict[str, torch.Tensor] = {}
    for name, info in checkpoint.tensors.items():
        target = places.get(name)
        if target is None:
            if _is_computed(name):
                continue
            raise IncompatibleModelsError(
                f"tensor {name!r} has no place in the architecture.", where=checkpoint.name
            )
        if tuple(target.shape) != info.shape:
            raise IncompatibleModelsError(
                f"tensor {name!r} has shape {info.shape}, the architecture needs "
                f"{tuple(target.shape)}.",
                where=checkpoint.name,
            )
        matched[name] = target
    return matched


def _refuse_missing(
    checkpoint: Checkpoint, places: dict[str, torch.Tensor], matched: dict[str, torch.Tensor]
) -> None:
    filled = {target.data_ptr() for target in matched.values()}
    missing = [name for name, place in places.items() if place.data_ptr() not in filled]
    if missing:
        raise IncompatibleModelsError(
            f"{len(missing)} tensors are missing, {missing[0]!r} among them.", where=checkpoint.name
        )


def _not_finite(checkpoint: Checkpoint, name: str, dtype: torch.dtype) -> MiscibleError:
    kind = str(dtype).removeprefix("torch.")
    return MiscibleError(
        f"tensor {name!r} is not finite in {kind}.",
        where=checkpoint.name,
        fix=f"It holds NaN or infinity, or numbers too large for {kind}; try float32.",
    )


def _untied(checkpoint: Checkpoint, first: str, second: str) -> IncompatibleModelsError:
    return IncompatibleModelsError(
        f"tensors {first!r} and {second!r} differ, and the architecture in memory ties them.",
        where=checkpoint.name,
        fix="Load it on its own; its head is untied.",
    )


def _is_computed(name: str) -> bool:
    # Old checkpoints store buffers that newer architectures compute.
    return name.endswith(("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    headed = len(lines) > 1 and lines[0].endswith(":")  # a heading says nothing on its own
    return (" ".join(lines[:2]) if headed else lines[0])[:300]


def _build(
    checkpoint: Checkpoint, dtype: torch.dtype, place: torch.device
) -> tuple[Any, list[tuple[Any, str, torch.Tensor]] | None]:
    # The model is without memory where the second value is not None.
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    # A merge's config is not the one in its folder: its head may be untied, its layers restacked.
    with TemporaryDirectory(prefix="miscible-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(dict(checkpoint.config)))
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    computed = _computed_buffers(model, config)
    if computed is None:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
        model = model.to(place)
    return model, computed


def _computed_buffers(model: Any, config: Any) -> list[tuple[Any, str, torch.Tensor]] | None:
    # A model built without memory lacks the buffers that no checkpoint stores (rotary
    # frequencies). They are small: take them from modules built for real. None means that a
    # module cannot be built from the config alone, and the whole model must be.
    found = []
    for module in model.modules():
        if not module._non_persistent_buffers_set:
            continue
        try:
            fresh = type(module)(config)
        except (TypeError, AttributeError):
            return None
        names = module._non_persistent_buffers_set
        found += [(module, name, getattr(fresh, name)) for name in names]
    return found
