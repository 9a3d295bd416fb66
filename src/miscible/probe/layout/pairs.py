"""How minimal pairs are divided into folds and controlled, for every model alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from miscible.keys import content_key
from miscible.probe.dataset import ProbeDataset
from miscible.probe.fit.linear import cross_fit
from miscible.probe.layout.bag_of_words import word_counts
from miscible.probe.layout.folds import folds_of, groups_of

DEFAULT_FOLDS = 5
_UNDECIDED = 1e-6


@dataclass(frozen=True)
class PairLayout:
    """Minimal pairs laid out for cross-fitting, by their content and the study's seed alone.

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
    def build(cls, dataset: ProbeDataset, folds: int = DEFAULT_FOLDS, seed: int = 0) -> PairLayout:
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

    @cached_property
    def words_right(self) -> npt.NDArray[np.float64]:
        """Whether a probe on bags of words is right: good sentences, then bad ones, [2 pairs]."""
        pairs = self.dataset.pairs
        features = word_counts([[pair.good] for pair in pairs] + [[pair.bad] for pair in pairs])
        truth = np.repeat([True, False], len(pairs))
        fit = cross_fit(features, truth[None], np.tile(self.folds, 2))
        said = fit.scores[0, 0]
        # Where words tell nothing their weights are 0 but for rounding: no answer is half right.
        right = np.where(np.abs(said) < _UNDECIDED, 0.5, (said > 0) == truth)
        return right.astype(np.float64)
