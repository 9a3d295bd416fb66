"""Images for calibrating classifiers: a folder of classes, or a file of tensors.

============================  ====================================================================
a folder                      a folder a class, of image files; classes are called as in the
                              model's config (``label2id``), or numbered
a file ``.safetensors``,      tensors ``images`` [images, channels, height, width] and ``labels``
``.npz``                      [images]: floats as the model receives them, or 0 to 255
============================  ====================================================================

Image files are brought to the model's size and scale as its ``preprocessor_config.json`` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from miscible.errors import DatasetError, MiscibleError
from miscible.measure.classifier import LabelledImages
from miscible.models.checkpoint import Checkpoint, read_json

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
TENSOR_SUFFIXES = frozenset({".safetensors", ".npz"})
MOST_IMAGES = 10_000
"""Most images that are looked at: calibration sets are small."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes what a classifier receives.

    Attributes:
        channels, height, width: of the result.
        mean, std: by channel, of pixels between 0 and 1.
    """

    channels: int
    height: int
    width: int
    mean: Sequence[float]
    std: Sequence[float]

    @classmethod
    def of(cls, model: Checkpoint) -> Preprocessing:
        """Return that of a model's config and its ``preprocessor_config.json``, if there is one.

        Raises:
            DatasetError: if the config tells no size.
        """
        path = model.folder / "preprocessor_config.json"
        said: Mapping[str, Any] = read_json(path) if path.is_file() else {}
        channels = model.config.get("num_channels", 3)
        size = model.config.get("image_size") or said.get("crop_size") or said.get("size")
        if isinstance(size, Mapping):
            size = [size.get(key, size.get("shortest_edge")) for key in ("height", "width")]
        sides = list(size) if isinstance(size, Sequence) else [size, size]
        numbers = [n for n in (channels, *sides) if isinstance(n, int) and n > 0]
        if len(numbers) != 3:
            raise DatasetError(
                "its config does not tell the size of its images.",
                where=model.name,
                fix="Give a file of tensors, as the model receives them.",
            )
        channels, height, width = numbers
        mean, std = (_by_channel(said.get(f"image_{key}"), channels) for key in ("mean", "std"))
        return cls(channels, height, width, mean, std)

    def scaled(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return pixels of 0 to 255, [..., channels, height, width], as the model receives them."""
        mean, std = (np.asarray(held)[:, None, None] for held in (self.mean, self.std))
        found: npt.NDArray[np.float32] = ((pixels / 255.0 - mean) / std).astype(np.float32)
        return found


def read_images(
    source: Path, model: Checkpoint, *, samples: int, exactly: bool, seed: int = 0, head: str = ""
) -> LabelledImages:
    """Draw labelled images from a source; see the module's table.

    Args:
        model: whose size, scale and classes they get.
        samples: most images that are drawn.
        exactly: whether fewer are an error.
        seed: of the draw.
        head: model whose head classifies them; every model its own if empty.

    Raises:
        DatasetError: if the source cannot be read, or holds too few images.
    """
    if source.suffix in TENSOR_SUFFIXES:
        pixels, labels = _tensors(source)
        chosen = _drawn(len(labels), samples, exactly, seed, source)
        images = _as_received(pixels[chosen], model, source)
        return LabelledImages(source.name, images, labels[chosen], head)
    files = _files(source, model)
    chosen = _drawn(len(files), samples, exactly, seed, source)
    form = Preprocessing.of(model)
    held = [_opened(files[number][0], form) for number in chosen]
    labels = np.array([files[number][1] for number in chosen], dtype=np.int64)
    return LabelledImages(source.name, form.scaled(np.stack(held)), labels, head)


def _drawn(
    count: int, samples: int, exactly: bool, seed: int, source: Path
) -> npt.NDArray[np.int64]:
    if count < (samples if exactly else 1):
        raise DatasetError(
            f"it holds {count} images; {samples if exactly else 1} are needed.",
            where=str(source),
            fix="Give more images, or ask for fewer samples.",
        )
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[:samples])


def _tensors(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                held = {name: file[name] for name in ("images", "labels") if name in file}
        else:
            from safetensors.numpy import load_file

            held = {k: v for k, v in load_file(path).items() if k in ("images", "labels")}
    except OSError as error:
        reason = error.strerror or "it is not such a file"
        raise DatasetError(f"it cannot be read: {reason}.", where=str(path)) from error
    except Exception as error:  # a damaged archive can raise anything
        raise DatasetError("the file is damaged, or of another kind.", where=str(path)) from error
    if len(held) != 2 or held["images"].ndim != 4 or held["labels"].shape != (len(held["images"]),):
        raise DatasetError(
            "it has no tensors 'images' [images, channels, height, width] and 'labels' [images].",
            where=str(path),
        )
    if held["labels"].dtype.kind not in "iu" or held["images"].dtype.kind not in "fiu":
        raise DatasetError("images are numbers, and labels integers.", where=str(path))
    return held["images"], held["labels"].astype(np.int64)


def _as_received(
    pixels: npt.NDArray[Any], model: Checkpoint, source: Path
) -> npt.NDArray[np.float32]:
    form = Preprocessing.of(model)
    if pixels.shape[1:] != (form.channels, form.height, form.width):
        raise DatasetError(
            f"its images are {list(pixels.shape[1:])}; {model.name} receives "
            f"{[form.channels, form.height, form.width]} (channels, height, width).",
            where=str(source),
        )
    if pixels.dtype.kind in "iu":
        return form.scaled(pixels)
    if not np.isfinite(pixels).all():
        raise DatasetError("its images hold NaN or infinity.", where=str(source))
    return pixels.astype(np.float32)


def _files(folder: Path, model: Checkpoint) -> list[tuple[Path, int]]:
    if not folder.is_dir():
        raise DatasetError(
            "there is no such folder of images.",
            where=str(folder),
            fix="Give a folder with a folder for each class, a .safetensors or a .npz file.",
        )
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    number = _numbers([path.name for path in classes], model, folder)
    found = [
        (file, number[path.name])
        for path in classes
        for file in sorted(path.iterdir())
        if file.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise DatasetError(
            "it holds no image in a folder of a class.",
            where=str(folder),
            fix="Make a folder for each class, with its images.",
        )
    return found[:: -(-len(found) // MOST_IMAGES)]


def _numbers(names: Sequence[str], model: Checkpoint, folder: Path) -> dict[str, int]:
    said = model.config.get("label2id")
    known = {str(k): v for k, v in said.items()} if isinstance(said, Mapping) else {}
    unknown = [name for name in names if name not in known and not name.isdigit()]
    if unknown:
        classes = ", ".join(sorted(known)[:8])
        raise DatasetError(
            f"{unknown[0]!r} is no class of {model.name}.",
            where=str(folder),
            fix=f"Its classes: {classes}." if known else "Call the folders 0, 1, 2, ...",
        )
    return {name: int(known.get(name, name)) for name in names}


def _opened(path: Path, form: Preprocessing) -> npt.NDArray[np.uint8]:
    try:
        from PIL import Image
    except ImportError as error:
        raise MiscibleError(
            "image files are read with Pillow, which is not installed.",
            fix="Install it: pip install 'miscible[images]'. Or give a .safetensors file.",
        ) from error
    try:
        with Image.open(path) as image:
            held = image.convert("RGB" if form.channels == 3 else "L")
            held = held.resize((form.width, form.height), Image.Resampling.BICUBIC)
            pixels: npt.NDArray[np.uint8] = np.asarray(held, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError("it is no image, or a damaged one.", where=str(path)) from error
    return pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]


def _by_channel(said: Any, channels: int) -> list[float]:
    numbers = said if isinstance(said, Sequence) and not isinstance(said, str) else [said]
    held = [float(n) for n in numbers if isinstance(n, int | float)] or [0.5]
    return held if len(held) == channels else [held[0]] * channels
