"""Image classifiers of transformers as runners of calibration: the true head, the true labels.

Fine-tunes for different tasks have different heads. Images of a task then name the model whose
head classifies them, and every model's body is run under that head: what is compared is what would
be merged. The head's own parameters do not enter the gradient there; where every model is run under
its own head, they do, if all heads are of one size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from miscible.errors import CheckpointError, DatasetError, IncompatibleModelsError, MiscibleError
from miscible.keys import content_key
from miscible.measure.passes import Batch
from miscible.models.checkpoint import Checkpoint
from miscible.models.finite import all_finite
from miscible.models.live import parse_device, parse_dtype
from miscible.models.quiet import quiet_transformers


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with their labels: a shared draw of inputs.

    Attributes:
        name: of the data set.
        images: as models receive them (resized, normalised), float32
            [images, channels, height, width].
        labels: class of each image, int64 [images].
        head: model whose head classifies them; every model its own if empty.
    """

    name: str
    images: npt.NDArray[np.float32] = field(repr=False)
    labels: npt.NDArray[np.int64] = field(repr=False)
    head: str = ""

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise DatasetError(
                f"images of shape {self.images.shape} and labels of shape {self.labels.shape}; "
                "[images, channels, height, width] and [images] are needed.",
                where=self.name,
            )
        if not len(self.labels) or self.labels.min() < 0:
            raise DatasetError("there are no images, or negative labels.", where=self.name)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def key(self) -> str:
        """A content key of images and labels."""
        pixels = np.ascontiguousarray(self.images, dtype=np.float32)
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        shape = list(pixels.shape)
        return content_key(images=digest, shape=shape, labels=self.labels.tolist(), head=self.head)

    @property
    def tokens(self) -> int:
        """0: images are no tokens."""
        return 0

    @property
    def predictions(self) -> int:
        """Number of images."""
        return len(self)

    def split(self, parts: int, seed: int = 0) -> tuple[LabelledImages, ...]:
        """Return *parts* disjoint random parts whose sizes differ by one image at most.

        Raises:
            DatasetError: if there are fewer images than parts.
        """
        if not 1 <= parts <= len(self):
            message = f"{len(self)} images cannot be split into {parts} parts."
            raise DatasetError(message, where=self.name)
        order = np.random.default_rng(seed).permutation(len(self))
        chosen = [np.sort(part) for part in np.array_split(order, parts)]
        return tuple(
            LabelledImages(self.name, self.images[part], self.labels[part], self.head)
            for part in chosen
        )


class ImageClassifier:
    """An image classifier; its loss is the cross entropy with the true labels.

    Weights are loaded through transformers, which knows how files of older versions name them.

    Args:
        models: by name; all of one architecture apart from the head.
        batch_size: images of a batch.

    Raises:
        CheckpointError: if transformers can load none of them.

    Attributes:
        module: the model that was filled last, or the first that can be.
    """

    def __init__(
        self,
        models: Mapping[str, Checkpoint],
        *,
        dtype: str = "float32",
        device: str = "cpu",
        batch_size: int = 64,
    ) -> None:
        if not models:
            raise MiscibleError("there are no models.")
        self._models, self.batch_size = models, batch_size
        self._dtype, self._device = parse_dtype(dtype), parse_device(device)
        self._heads: dict[str, dict[str, torch.nn.Module]] = {}
        for number, checkpoint in enumerate(models.values(), 1):
            try:
                self.fill(checkpoint)
                break
            except MiscibleError:
                if number == len(models):
                    raise

    def fill(self, checkpoint: Checkpoint) -> None:
        """Take the weights of a checkpoint, with its own head.

        Raises:
            CheckpointError: if transformers cannot build or fill its architecture.
            IncompatibleModelsError: if its tensors are not those of its architecture.
            MiscibleError: if a tensor is not finite.
        """
        self.module = self._loaded(checkpoint)
        self._own, self._own_head = checkpoint, self._head_of(self.module)

    def parameters(self, data: Sequence[LabelledImages]) -> Mapping[str, torch.nn.Parameter]:
        """Return those of the body, and of the head where all have their own, of one size."""
        shared = not any(each.head for each in data) and self._heads_are_alike
        prefix = f"{self.module.base_model_prefix}."
        held = self.module.named_parameters()
        return {name: each for name, each in held if shared or name.startswith(prefix)}

    def batches(self, data: LabelledImages) -> Iterator[Batch]:
        """Yield images and labels.

        Raises:
            IncompatibleModelsError: if the head has fewer classes than the data.
            MiscibleError: if the data name a model that is not there.
        """
        owner = self._wear_head(data.head)
        classes = _classes(owner)
        if data.labels.max() >= classes:
            raise IncompatibleModelsError(
                f"labels of {data.name!r} go up to {data.labels.max()}; the head of {owner.name} "
                f"has {classes} classes.",
                fix="Name the model whose head is for these images.",
            )
        for start in range(0, len(data), self.batch_size):
            rows = slice(start, start + self.batch_size)
            images = torch.from_numpy(np.ascontiguousarray(data.images[rows]))
            yield {
                "pixel_values": images.to(self._device, self._dtype),
                "labels": torch.from_numpy(data.labels[rows]).to(self._device),
            }

    def losses(self, batch: Batch) -> torch.Tensor:
        """Run the model; return -log p of each image's label, [images]."""
        pixels = batch["pixel_values"]
        if torch.is_grad_enabled():
            pixels.requires_grad_(True)
        self._pixels = pixels
        logits = self.module(pixel_values=pixels).logits
        wide = logits if logits.element_size() >= 4 else logits.float()
        return torch.nn.functional.cross_entropy(wide, batch["labels"], reduction="none")

    @contextmanager
    def input_tap(self) -> Iterator[Callable[[], torch.Tensor]]:
        """The input is the pixels; see `Runner.input_tap`."""
        yield lambda: self._pixels

    def input_size(self, data: LabelledImages) -> int:
        """Return the number of pixels of all images."""
        return int(data.images.size)

    @cached_property
    def _heads_are_alike(self) -> bool:
        prefix = f"{self.module.base_model_prefix}."
        heads = [
            {n: info.shape for n, info in model.tensors.items() if not n.startswith(prefix)}
            for model in self._models.values()
            if any(n.startswith(prefix) for n in model.tensors)
        ]
        return all(each == heads[0] for each in heads)

    def _head_of(self, module: Any) -> dict[str, torch.nn.Module]:
        prefix = module.base_model_prefix
        return {name: child for name, child in module.named_children() if name != prefix}

    def _wear_head(self, name: str) -> Checkpoint:
        if name and name not in self._models:
            raise MiscibleError(f"there is no model {name!r} to take a head of.")
        if name and name not in self._heads:
            self._heads[name] = self._head_of(self._loaded(self._models[name]))
        for place, child in (self._heads[name] if name else self._own_head).items():
            setattr(self.module, place, child)
        return self._models[name] if name else self._own

    def _loaded(self, checkpoint: Checkpoint) -> Any:
        from transformers import AutoConfig, AutoModelForImageClassification

        tensors: dict[str, torch.Tensor] = {}
        for name, info in checkpoint.tensors.items():
            tensors[name] = checkpoint.read(name, self._dtype if info.floating else None)
            if info.floating and not all_finite(tensors[name]):
                raise MiscibleError(f"tensor {name!r} is not finite.", where=checkpoint.name)
        # A config from a stranger can make transformers fail in any way at all.
        try:
            with quiet_transformers(), TemporaryDirectory(prefix="miscible-") as folder:
                path = Path(folder) / "config.json"
                path.write_text(json.dumps(dict(checkpoint.config)))
                config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
                with torch.device("meta"):
                    kind = type(AutoModelForImageClassification.from_config(config))
                module, report = kind.from_pretrained(
                    None, config=config, state_dict=tensors, dtype=self._dtype,
                    output_loading_info=True, ignore_mismatched_sizes=True,
                )  # fmt: skip
        except Exception as error:
            first = str(error).strip().partition("\n")[0][:300] or type(error).__name__
            raise CheckpointError(
                f"transformers cannot load the classifier: {first}", where=checkpoint.name
            ) from error
        for kind_of, what in (
            ("missing_keys", "is missing"),
            ("unexpected_keys", "has no place in the architecture"),
            ("mismatched_keys", "has another shape than the config says"),
        ):
            if report[kind_of]:
                found = min(map(str, report[kind_of]))
                raise IncompatibleModelsError(f"tensor {found} {what}.", where=checkpoint.name)
        return module.to(self._device).eval().requires_grad_(False)


def _classes(checkpoint: Checkpoint) -> int:
    config = checkpoint.config
    labels = config.get("id2label")
    if isinstance(labels, Mapping):
        return len(labels)
    count = config.get("num_labels", 2)
    return count if isinstance(count, int) else 2
