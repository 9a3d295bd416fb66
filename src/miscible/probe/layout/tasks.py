"""How the examples of a data set are divided, labelled and controlled, for every model alike."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from miscible.errors import DatasetError
from miscible.keys import content_key
from miscible.probe.dataset import Example, ProbeDataset
from miscible.probe.fit.held_out import Split, splits_of
from miscible.probe.layout.folds import folds_of, joined_groups

Indices = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]

FOLDS_BELOW = 300
"""With fewer examples every one is tested once (cross-fitting); with more, a quarter is."""
FOLDS = 5
SHARES = {"test": 0.25, "dev": 0.15}
"""Of the groups, where the source gives no split. The rest is for training."""


@dataclass(frozen=True, eq=False)
class TaskLayout:
    """A data set laid out for probes, by its content and the study's seed alone.

    Attributes:
        dataset: the data set.
        kept: indices of the examples that the tokenizer lets a model read, [rows]; everything
            below counts in these.
        groups: of each row, 0 ... G-1.
        labels: class of each row (index into `ProbeDataset.classes`), or value, float64.
        control: the same for the control task.
        splits: rows to train on, to choose the penalty on, to test on; none where *folds* is given.
        folds: fold in which each row is tested.
        seed: for bootstrap resamples.
    """

    dataset: ProbeDataset
    kept: Indices
    groups: Indices
    labels: Array
    control: Array
    splits: tuple[Split, ...]
    folds: Indices | None
    seed: int

    @classmethod
    def build(cls, dataset: ProbeDataset, readable: npt.NDArray[np.bool_], seed: int) -> TaskLayout:
        """Lay out a data set.

        A control task gives all examples of one `Example.type` the same label, drawn from the
        labels that the types have (Hewitt and Liang, arXiv 1909.03368, section 2).

        Args:
            dataset: a data set that is not one of minimal pairs.
            readable: whether every span of an example has a token, [examples].
            seed: of folds, control labels and resamples, together with the data set's content.

        Raises:
            DatasetError: too few unrelated examples, or nothing to tell apart.
        """

        def derived(purpose: str) -> int:
            return int(content_key(data=dataset.key, seed=seed, purpose=purpose), 16)

        kept = np.flatnonzero(readable)
        if not len(kept):
            raise DatasetError("no example fits into the model's context.", where=dataset.name)
        examples = [dataset.examples[index] for index in kept]
        groups = joined_groups([_links(example) for example in examples])
        labels = _labels(dataset, examples)
        splits: tuple[Split, ...] = ()
        folds = None
        if dataset.splits:
            splits = tuple(
                _given(np.asarray(roles)[kept], groups, derived("dev"), dataset.name)
                for roles in dataset.splits
            )
        elif len(kept) < FOLDS_BELOW:
            folds = folds_of(groups, FOLDS, derived("folds"), dataset.name)
        else:
            splits = (_drawn(groups, derived("split"), dataset.name),)
        for split in splits:
            if len(np.unique(labels[split.train])) < 2:
                raise DatasetError("all training examples have one label.", where=dataset.name)
        return cls(
            dataset, kept, groups, labels, _control(examples, labels, derived("control")), splits,
            folds, derived("bootstrap"),
        )  # fmt: skip

    @property
    def rounds(self) -> tuple[Split, ...]:
        """The splits, or one a fold: together they test every row of `tested`."""
        return self.splits if self.folds is None else tuple(splits_of(self.folds))

    @property
    def tested(self) -> Indices:
        """Rows that are tested, round by round."""
        return np.concatenate([split.test for split in self.rounds])

    @property
    def unseen(self) -> int:
        """How many tested rows have a class that their probe never saw."""
        if self.dataset.kind == "regression":
            return 0
        return sum(
            int((~np.isin(self.labels[each.test], self.labels[each.train])).sum())
            for each in self.rounds
        )

    @property
    def constant(self) -> float:
        """What a probe that looks at nothing says: the commonest class, or the mean value."""
        rows = self.splits[0].train if self.splits else slice(None)
        labels = self.labels[rows]
        if self.dataset.kind == "regression":
            return float(labels.mean())
        return float(np.bincount(labels.astype(np.int64)).argmax())

    @property
    def examples(self) -> list[Example]:
        """The examples of the rows."""
        return [self.dataset.examples[index] for index in self.kept]


def _links(example: Example) -> list[tuple[str, object]]:
    # What must not be on both sides of a split: a text, a stated group.
    links: list[tuple[str, object]] = [
        ("text", span.text) for part in example.inputs for span in part
    ]
    return [*links, ("group", example.group)] if example.group else links


def _labels(dataset: ProbeDataset, examples: Sequence[Example]) -> Array:
    if dataset.kind == "regression":
        return np.asarray([float(example.label) for example in examples])
    places = {label: place for place, label in enumerate(dataset.classes)}
    return np.asarray([float(places[str(example.label)]) for example in examples])


def _control(examples: Sequence[Example], labels: Array, seed: int) -> Array:
    types = [example.type or f"\0{example.id}" for example in examples]
    first = {kind: place for place, kind in reversed(list(enumerate(types)))}
    pool = labels[np.asarray(sorted(first.values()))]
    draws = np.random.default_rng(seed).permutation(len(pool))
    given = dict(zip(first, pool[draws], strict=True))
    return np.asarray([given[kind] for kind in types])


def _given(roles: npt.NDArray[np.str_], groups: Indices, seed: int, where: str) -> Split:
    train, dev, test = (np.flatnonzero(roles == role) for role in ("train", "dev", "test"))
    if not len(train) or not len(test):
        raise DatasetError("a split has nothing to train or to test on.", where=where)
    if not len(dev):  # a part of what is there to train on, whole groups of it
        taken = _share(groups[train], SHARES["dev"] / (1 - SHARES["test"]), seed, where)
        train, dev = train[~taken], train[taken]
    return Split(train, dev, test)


def _drawn(groups: Indices, seed: int, where: str) -> Split:
    test = _share(groups, SHARES["test"], seed, where)
    rest = np.flatnonzero(~test)
    dev = _share(groups[rest], SHARES["dev"] / (1 - SHARES["test"]), seed + 1, where)
    return Split(rest[~dev], rest[dev], np.flatnonzero(test))


def _share(groups: Indices, share: float, seed: int, where: str) -> npt.NDArray[np.bool_]:
    """Return which rows are taken: groups in random order until about a share is reached."""
    sizes = Counter(groups.tolist())
    order = sorted(sizes)
    random.Random(seed).shuffle(order)
    wanted, count = share * len(groups), 0
    taken: set[int] = set()
    for group in order:
        if taken and count + sizes[group] / 2 > wanted:
            continue
        if len(taken) == len(sizes) - 1:
            break
        taken.add(group)
        count += sizes[group]
    if not taken or count == len(groups):
        raise DatasetError(
            f"there are too few unrelated examples to divide ({len(sizes)} groups).", where=where
        )
    return np.isin(groups, list(taken))
