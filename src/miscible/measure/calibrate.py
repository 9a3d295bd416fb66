"""From calibration data to what metrics read: the models of a measurement are run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from miscible.errors import (
    DatasetError,
    IncompatibleModelsError,
    MiscibleError,
    StoreError,
    did_you_mean,
)
from miscible.keys import content_key
from miscible.measure.calibrated import Calibrated, CalibrationNote, DataNote, RunPairs, nothing_ran
from miscible.measure.calibration import BUILT_IN, CalibrationText, calibration_text
from miscible.measure.contract import By, Needs
from miscible.measure.run_scopes import run_scopes
from miscible.models.checkpoint import Checkpoint
from miscible.models.layout import Layout

if TYPE_CHECKING:
    from miscible.measure.classifier import LabelledImages
    from miscible.measure.passes import Data, Runner
    from miscible.measure.trace import Trace

Source: TypeAlias = "str | Path | CalibrationText | LabelledImages"
LENGTH = 128
"""Tokens of a sequence, where the models can read as many."""
SAMPLES = 64
"""Sequences or images of a set, where it has as many."""
FEWEST = 4
"""Sequences that a set must give: fewer say nothing of a model, and have no CKA."""


@dataclass(frozen=True)
class Calibration:
    """Over what models are run, and how.

    Attributes:
        data: shared by all models. Of language models a text: ``built-in``, a ``.txt`` or
            ``.jsonl`` file, ``hub:NAME[:CONFIG[:SPLIT]]``, see `miscible.measure.calibration`. Of
            image classifiers: see `miscible.measure.images`. None for none.
        own: data of single models by name, on which all are run.
        samples: sequences or images of each set; as many as it has, 64 at most, if None.
        length: tokens of a sequence; 128, or as many as the models read, if None.
        column: key or column of a set that holds the text.
        layer: whose hidden states the metrics of whole models read; -1 is the last block's.
        folds: into how many parts each set is cut, to see how values depend on the draw.
        seed: of the draw.
        dtype, device, batch_size: in, on and with which models are run.
    """

    data: Source | None = BUILT_IN
    own: Mapping[str, Source] = field(default_factory=dict)
    samples: int | None = None
    length: int | None = None
    column: str = "text"
    layer: int = -1
    folds: int = 1
    seed: int = 0
    dtype: str = "float32"
    device: str = "cpu"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("samples", 1), ("length", 2), ("folds", 1), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise MiscibleError(f"{name!r} must be at least {least}. Got {value} instead.")
        if self.data is None and not self.own:
            raise MiscibleError("there are no calibration data.", fix=f"Give {BUILT_IN!r}.")


@dataclass(frozen=True)
class Prepared:
    """Calibration data of a measurement: read, drawn and cut, before any model is run.

    Attributes:
        calibration: what was asked for.
        pieces, owners: the data, and the model whose own each is.
        sets: key of the set of which each is a piece.
        load: makes the model in memory through which they flow.
    """

    calibration: Calibration
    pieces: Sequence[Data]
    owners: Sequence[str]
    sets: Sequence[str]
    load: Callable[[Mapping[str, Checkpoint]], Runner[Any]]

    def run(
        self,
        models: Mapping[str, Checkpoint],
        needs: Collection[Needs],
        tensors: Sequence[str],
        *,
        by: By | None = None,
        layout: Layout,
    ) -> Calibrated:
        """Run models over the data: once forwards, and once backwards where gradients are needed.

        Args:
            models: two or more, by name.
            needs: what is wanted of them.
            tensors: names of the base's tensors, after which layers are called.
            by: whether parts of them are wanted too.

        Raises:
            MiscibleError: if there is no such layer. What is wrong with one model is in
                `Calibrated.failures`, and of all where none can be loaded or the disk is too small.
        """
        from miscible.measure.midpoint import run_midpoints
        from miscible.measure.stability import stability
        from miscible.measure.trace import KINDS
        from miscible.measure.tracing import trace

        try:
            runner = self.load(models)
        except MiscibleError as error:
            return nothing_ran(models, error, self.note())
        layers = self._layers(runner, needs, by)
        own = [owner if owner in models else "" for owner in self.owners]
        try:
            held = trace(
                models, runner, self.pieces, owners=own, layers=layers,
                gradients=KINDS if "gradients" in needs else (), by_tensor=by is not None,
            )  # fmt: skip
        except StoreError as error:
            return nothing_ran(models, error, self.note())
        ran = {"activations", "gradients"} & set(needs)
        midpoints = "midpoints" in needs
        return Calibrated(
            RunPairs(
                held.activation_pairs() if "activations" in ran else {},
                held.gradient_pairs(),
                run_midpoints(held, models, runner, self.pieces) if midpoints else {},
            ),
            {} if by is None else run_scopes(held, runner, layers, tensors, by, layout),
            held.failures,
            _losses(held),
            self.note(),
            stability(held) if self.calibration.folds > 1 and ran else (),
        )

    def note(self) -> CalibrationNote:
        """Return what the data are, for results."""
        sets: dict[tuple[str, str, str], list[Data]] = defaultdict(list)
        for piece, owner, key in zip(self.pieces, self.owners, self.sets, strict=True):
            sets[piece.name, owner, key].append(piece)
        data = [
            DataNote(
                name, owner, content_key(pieces=[key]),
                sum(len(piece) for piece in held), sum(piece.tokens for piece in held),
            )
            for (name, owner, key), held in sets.items()
        ]  # fmt: skip
        asked = self.calibration
        key = content_key(sets=[(each.owner, each.key) for each in data])
        return CalibrationNote(
            data, key, asked.seed, asked.folds, asked.layer, asked.dtype, asked.device
        )

    def _layers(self, runner: Runner[Any], needs: Collection[Needs], by: By | None) -> list[int]:
        if "activations" not in needs:
            return []
        from miscible.measure.hidden_states import StateTaps
        from miscible.models.blocks import stack_of_blocks

        StateTaps(runner.module, [self.calibration.layer])  # a layer that no model has ends the run
        if by != "layer":
            return [self.calibration.layer]
        count = len(stack_of_blocks(runner.module)[1])
        return [self.calibration.layer, *range(count + 1)]


def prepare(
    calibration: Calibration, base: Checkpoint, models: Mapping[str, Checkpoint]
) -> Prepared:
    """Read calibration data for models, and refuse what cannot be run, before anything is.

    Raises:
        CheckpointError: if the models cannot be run as they are: there is no tokenizer.
        IncompatibleModelsError: if they are neither language models nor image classifiers.
        MiscibleError: if the data are not what they need, or there is no such device or dtype.
    """
    from miscible.models.live import parse_device, parse_dtype

    parse_dtype(calibration.dtype)
    parse_device(calibration.device)
    for owner in calibration.own:
        if owner not in models:
            raise MiscibleError(
                f"there are calibration data of {owner!r}, which is no model.",
                fix=did_you_mean(owner, models),
            )
    wanted = [("", calibration.data)] if calibration.data is not None else []
    sources = [*calibration.own.items(), *wanted]
    if kind_of(base, models) == "images":
        return _of_images(calibration, base, models, sources)
    return _of_text(calibration, base, sources)


def kind_of(base: Checkpoint, models: Mapping[str, Checkpoint]) -> Literal["text", "images"]:
    """Return whether models read text or images, told from their configs.

    Raises:
        IncompatibleModelsError: if they are neither language models nor image classifiers.
    """
    named = [
        str(name)
        for model in (base, *models.values())
        for name in model.config.get("architectures") or []
    ]
    if any(name.endswith("ForImageClassification") for name in named):
        return "images"
    if not base.config:
        raise IncompatibleModelsError(
            "bare weights cannot be run: there is no config.",
            where=base.name,
            fix="Give model folders, or ask for metrics of weights alone.",
        )
    if not named or any("CausalLM" in name or "LMHead" in name for name in named):
        return "text"
    if any(name.endswith("ForConditionalGeneration") for name in named):
        return "text"  # those that generate text from text and images have a language model
    raise IncompatibleModelsError(
        f"models of the architecture {named[0]!r} cannot be run: only causal language models and "
        "image classifiers can.",
        where=base.name,
        fix="Ask for metrics of weights alone.",
    )


def _of_text(
    asked: Calibration, base: Checkpoint, sources: Sequence[tuple[str, Source]]
) -> Prepared:
    from miscible.measure.calibration import calibration_set
    from miscible.measure.language_model import LanguageModel
    from miscible.models.live import load_tokenizer

    tokenizer = load_tokenizer(base)
    length = asked.length or min(LENGTH, _context(base))
    pieces: list[Data] = []
    owners: list[str] = []
    sets: list[str] = []
    for owner, source in sources:
        if isinstance(source, str | Path):
            text = calibration_text(source, key=asked.column)
        elif isinstance(source, CalibrationText):
            text = source
        else:
            raise DatasetError("language models read text, not images.", where=source.name)
        held = calibration_set(
            text, tokenizer, length=length, sequences=asked.samples, most=SAMPLES, least=FEWEST,
            seed=asked.seed,
        )  # fmt: skip
        pieces += held.split(asked.folds, asked.seed)
        owners += [owner] * asked.folds
        sets += [held.key] * asked.folds

    def load(models: Mapping[str, Checkpoint]) -> Runner[Any]:
        return LanguageModel.load(
            base, dtype=asked.dtype, device=asked.device, batch_size=asked.batch_size
        )

    return Prepared(asked, pieces, owners, sets, load)


def _of_images(
    asked: Calibration,
    base: Checkpoint,
    models: Mapping[str, Checkpoint],
    sources: Sequence[tuple[str, Source]],
) -> Prepared:
    from miscible.measure.classifier import ImageClassifier, LabelledImages
    from miscible.measure.images import read_images

    pieces: list[Data] = []
    owners: list[str] = []
    sets: list[str] = []
    for owner, source in sources:
        if isinstance(source, CalibrationText) or source == BUILT_IN:
            raise DatasetError(
                "image classifiers are run over images.",
                where=base.name,
                fix="Give a folder with a folder for each class, a .safetensors or a .npz file.",
            )
        if isinstance(source, LabelledImages):
            held = source if source.head or not owner else replace(source, head=owner)
        else:
            held = read_images(
                Path(source), models.get(owner, base), samples=asked.samples or SAMPLES,
                exactly=asked.samples is not None, seed=asked.seed, head=owner,
            )  # fmt: skip
        pieces += held.split(asked.folds, asked.seed)
        owners += [owner] * asked.folds
        sets += [held.key] * asked.folds

    def load(sound: Mapping[str, Checkpoint]) -> Runner[Any]:
        return ImageClassifier(
            sound, dtype=asked.dtype, device=asked.device, batch_size=asked.batch_size or SAMPLES
        )

    return Prepared(asked, pieces, owners, sets, load)


def _context(base: Checkpoint) -> int:
    config: Any = base.config.get("text_config") or base.config
    found = config.get("max_position_embeddings")
    return found if isinstance(found, int) and found > 1 else LENGTH


def _losses(trace: Trace) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for place, name in enumerate(trace.models):
        if name in trace.failures:
            continue
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for number, piece in enumerate(trace.pieces):
            label = f"{piece.data} of {piece.owner}" if piece.owner else piece.data
            sums[label][0] += float(trace.loss[place, number]) * piece.predictions
            sums[label][1] += piece.predictions
        found[name] = {label: total / count for label, (total, count) in sums.items()}
    return found
