"""Everything about a probing run that is the same for every model of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from miscible.keys import content_key
from miscible.probe.contract import ProbeDataset
from miscible.probe.folds import folds_of, groups_of
from miscible.probe.tokens import EncodingPlan

if TYPE_CHECKING:
    from miscible.models.live import LiveModel

DEFAULT_FOLDS = 5

MAX_STATES_BYTES = 2**30
"""Pooled states that are held at a time; data sets beyond it are encoded in a later wave."""


@dataclass(frozen=True)
class Layout:
    """A data set laid out for cross-fitting, by its content and the study's seed alone.

    Attributes:
        dataset: the pairs.
        groups, folds: of each pair, [pairs].
        orientations: for each pair, whether a control task calls the good sentence good, [pairs].
        seed: for bootstrap resamples.
    """

    dataset: ProbeDataset
    groups: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int64]
    orientations: npt.NDArray[np.bool_]
    seed: int

    @classmethod
    def build(cls, dataset: ProbeDataset, folds: int = DEFAULT_FOLDS, seed: int = 0) -> Layout:
        """Lay out *dataset*; raises `DatasetError` if it has too few unrelated pairs."""

        def derived(purpose: str) -> int:
            return int(content_key(data=dataset.key, seed=seed, purpose=purpose), 16)

        groups = groups_of(dataset.pairs)
        draws = np.random.default_rng(derived("control")).random(len(groups))
        return cls(
            dataset,
            groups,
            folds_of(groups, folds, derived("folds"), dataset.name),
            draws < 0.5,
            derived("bootstrap"),
        )


@dataclass(frozen=True)
class Wave:
    """Data sets that are encoded together.

    Attributes:
        layouts: the data sets.
        encoding: their distinct texts.
    """

    layouts: tuple[Layout, ...]
    encoding: EncodingPlan


@dataclass(frozen=True)
class ProbePlan:
    """Data sets, folds and tokens, reused while models are swapped.

    Attributes:
        waves: in each, every distinct text is encoded once.
    """

    waves: tuple[Wave, ...]

    @classmethod
    def build(
        cls,
        datasets: Sequence[ProbeDataset],
        live: LiveModel,
        *,
        folds: int = DEFAULT_FOLDS,
        seed: int = 0,
        batch_tokens: int | None = None,
        padding: Literal["right", "left"] = "right",
    ) -> ProbePlan:
        """Plan to probe models that have the tokenizer and the context of *live*.

        Args:
            datasets: with distinct names.
            live: any model of the sweep.
            folds: test folds; pairs of one group are never split.
            seed: of folds, control labels and resamples, together with each data set's content.
            batch_tokens, padding: see `EncodingPlan.build`.

        Raises:
            DatasetError: a data set has too few unrelated pairs, or a text without tokens.
            IncompatibleModelsError: the tokenizer has no prefix token.
        """
        config = live.model.config.get_text_config()
        text_bytes = 4 * config.hidden_size * (config.num_hidden_layers + 1)
        waves = [
            Wave(
                tuple(Layout.build(dataset, folds, seed) for dataset in part),
                EncodingPlan.build(
                    [text for dataset in part for text in dataset.texts],
                    live.tokenizer,
                    live.model.config,
                    batch_tokens=batch_tokens,
                    padding=padding,
                ),
            )
            for part in _parts(datasets, MAX_STATES_BYTES // text_bytes)
        ]
        return cls(tuple(waves))


def _parts(datasets: Sequence[ProbeDataset], most_texts: int) -> list[list[ProbeDataset]]:
    parts: list[list[ProbeDataset]] = []
    held = 0
    for dataset in datasets:
        texts = 2 * len(dataset.pairs)
        if not parts or held + texts > most_texts:
            parts.append([])
            held = 0
        parts[-1].append(dataset)
        held += texts
    return parts
