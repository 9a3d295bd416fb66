"""What sets the insides of two models apart, without probes: similarity rows."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from miscible.errors import IncompatibleModelsError
from miscible.keys import content_key
from miscible.probe.comparison.lens import Lens
from miscible.probe.comparison.logit_lens import lens_curve, lens_divergence
from miscible.probe.dataset import ProbeDataset
from miscible.probe.encoding.cache import StateCache
from miscible.probe.encoding.encode import encode
from miscible.probe.encoding.tokens import EncodingPlan, Read
from miscible.records import SimilarityRow
from miscible.similarity.cka import linear_cka
from miscible.similarity.drift import Geometry, displacement, geometry
from miscible.similarity.estimate import Estimate

if TYPE_CHECKING:
    from miscible.models.live import LiveModel

TEXTS = 128
"""Texts on which models are compared, unless told otherwise."""
TEXTS_A_POSITION = 4
"""One text in so many has a token at which predictions are compared: each costs the product with
the output layer, once a layer and model."""
LARGEST_LENS = 2**29
"""Bytes of an output layer above which no copy is kept, and predictions are not compared."""

States = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """Texts on which models are compared.

    Attributes:
        encoding: the texts; its reads are all texts as a whole, then one token of some.
        wholes: how many reads are whole texts.
    """

    encoding: EncodingPlan
    wholes: int

    @classmethod
    def draw(
        cls,
        datasets: Sequence[ProbeDataset],
        live: LiveModel,
        *,
        seed: int = 0,
        texts: int = TEXTS,
        batch_tokens: int | None = None,
    ) -> Sample:
        """Draw texts evenly from all data sets: of minimal pairs the good sentences.

        Args:
            datasets: where the texts are from.
            live: any model of the sweep.
            seed: of the draws, together with the data sets' content.
            texts: how many, at most.
            batch_tokens: see `EncodingPlan.build`.
        """
        drawn = random.Random(content_key(seed=seed, data=[d.key for d in datasets]))
        pools = []
        for dataset in datasets:
            pool = [p.good for p in dataset.pairs] or [t for t in dataset.texts if type(t) is str]
            pools.append(drawn.sample(pool, min(len(pool), texts)))
        mixed = [text for text in chain(*zip_longest(*pools)) if text is not None]
        chosen = list(dict.fromkeys(mixed))[:texts]
        reads = [Read(text) for text in chosen]
        for text in chosen[: -(-len(chosen) // TEXTS_A_POSITION)]:
            # The token at a letter drawn at random: long tokens are likelier than short ones.
            place = drawn.choice([i for i, letter in enumerate(text) if not letter.isspace()])
            reads.append(Read(text, 0, place, place + 1))
        encoding = EncodingPlan.build(
            chosen, live.tokenizer, live.model.config, reads=reads, scored=(),
            batch_tokens=batch_tokens,
        )  # fmt: skip
        return cls(encoding, len(chosen))


@dataclass(frozen=True)
class Portrait:
    """What a model makes of a sample.

    Attributes:
        name: of the model.
        layers: the layers of the states.
        wholes: states of whole texts, [texts, layers, width].
        tokens: states of single tokens, [positions, layers, width].
        owners: text of each position.
        lens: from states to predictions; None for a model that has none.
    """

    name: str
    layers: tuple[int, ...]
    wholes: States
    tokens: States
    owners: npt.NDArray[np.int64]
    lens: Lens | None

    @classmethod
    def of(
        cls,
        live: LiveModel,
        sample: Sample,
        layers: Sequence[int] | str = "all",
        cache: StateCache | None = None,
    ) -> Portrait:
        """Run a model over a sample."""
        found = encode(live, sample.encoding, layers, cache)
        read = np.flatnonzero(~sample.encoding.missing[sample.wholes :]) + sample.wholes
        return cls(
            live.name, found.layers, found.states[: sample.wholes], found.states[read],
            sample.encoding.owners[read], _lens(live),
        )  # fmt: skip

    @cached_property
    def geometry(self) -> Geometry:
        """The shape of each layer's states of whole texts."""
        return geometry(self.wholes)


def _lens(live: LiveModel) -> Lens | None:
    head = live.model.get_output_embeddings()
    if head is None or head.weight.nbytes > LARGEST_LENS:
        return None
    try:
        return Lens.of(live.model)
    except IncompatibleModelsError:
        return None


def describe(model: Portrait) -> list[SimilarityRow]:
    """Return what the states of one model are like.

    ``effective_rank``, ``participation_ratio``, ``anisotropy``; and where it has a lens and its
    last layer is there ``lens_gap``.
    """
    shape, count = model.geometry, len(model.wholes)
    rows = [
        *_each_layer(model, model, "effective_rank", shape.effective_rank, count),
        *_each_layer(model, model, "participation_ratio", shape.participation_ratio, count),
        *_each_layer(model, model, "anisotropy", shape.mean_cosine, count),
    ]
    if model.lens is not None and len(model.tokens) and model.lens.last in model.layers:
        gap = lens_curve(model.lens, model.tokens, model.layers, model.owners)
        rows += _each_layer(model, model, "lens_gap", gap, len(model.tokens))
    return rows


def compare(model: Portrait, other: Portrait) -> list[SimilarityRow]:
    """Return how a model's states differ from another's, on the same sample.

    ``cka`` of all pairs of layers; where layers and widths are the same also ``norm_ratio``,
    ``cosine`` and ``relative_distance``; where both have a lens ``lens_kl``.
    """
    count = len(model.wholes)
    rows = list(_all_layers(model, other, linear_cka(model.wholes, other.wholes), count))
    if model.wholes.shape == other.wholes.shape and model.layers == other.layers:
        norms = model.geometry.norm.over(other.geometry.norm)
        apart = displacement(model.wholes, other.wholes)
        rows += _each_layer(model, other, "norm_ratio", norms, count)
        rows += _each_layer(model, other, "cosine", apart.cosine, count)
        rows += _each_layer(model, other, "relative_distance", apart.distance, count)
        if model.lens is not None and other.lens is not None and len(model.tokens):
            kl = lens_divergence(
                model.lens, model.tokens, other.lens, other.tokens, model.layers, model.owners
            )
            rows += _each_layer(model, other, "lens_kl", kl, len(model.tokens))
    return rows


def _each_layer(
    model: Portrait, other: Portrait, metric: str, found: Estimate, n: int
) -> Iterator[SimilarityRow]:
    low, high = found.interval()
    for place, layer in enumerate(model.layers):
        yield _row(model, other, metric, (layer, layer), found, (low, high), place, n)


def _all_layers(
    model: Portrait, other: Portrait, found: Estimate, n: int
) -> Iterator[SimilarityRow]:
    low, high = found.interval()
    for a, layer in enumerate(model.layers):
        for b, other_layer in enumerate(other.layers):
            yield _row(model, other, "cka", (layer, other_layer), found, (low, high), (a, b), n)


def _row(
    model: Portrait,
    other: Portrait,
    metric: str,
    layers: tuple[int, int],
    found: Estimate,
    bounds: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    place: int | tuple[int, int],
    n: int,
) -> SimilarityRow:
    value = float(found.value[place])
    low, high = (float(bound[place]) for bound in bounds)
    flags = "" if math.isfinite(value) else "nonfinite"
    return SimilarityRow(model.name, other.name, metric, *layers, value, low, high, n, flags)
