"""Held-out tasks are held out."""

from __future__ import annotations

import numpy as np
import pytest

from miscible.errors import MiscibleError
from miscible.predict.pairs import Pairs
from miscible.predict.validation.folds import (
    Fold,
    leave_one_task_out,
    leave_pairs_out,
    leave_tasks_out,
)
from miscible.predict.validation.settings import Settings, parse_validation
from predict.synthetic import examples


def tasks_of(pairs: Pairs, rows: np.ndarray) -> set[str]:
    return {name for pair in pairs.take(rows).names() for name in pair}


def check(pairs: Pairs, fold: Fold, unseen: int) -> None:
    assert not tasks_of(pairs, fold.train) & set(fold.held)
    for pair in pairs.take(fold.test).names():
        assert len(set(pair) & set(fold.held)) == unseen


def test_one_task() -> None:
    pairs = examples(9).pairs
    folds = leave_one_task_out(pairs)
    assert [fold.held[0] for fold in folds] == list(pairs.models)
    for fold in folds:
        check(pairs, fold, 1)
        assert len(fold.train) + len(fold.test) == len(pairs)


def test_several_tasks() -> None:
    pairs = examples(9).pairs
    folds = leave_tasks_out(pairs, 4, 12, seed=0)
    assert len({fold.held for fold in folds}) == 12
    for fold in folds:
        check(pairs, fold, 2)
        assert len(fold.test) == 6 and len(fold.train) == 10


def test_no_more_sets_than_there_are() -> None:
    assert len(leave_tasks_out(examples(6).pairs, 3, 500, seed=0)) == 20


def test_pairs() -> None:
    folds = leave_pairs_out(examples(6).pairs, 4, seed=0)
    assert sorted(np.concatenate([fold.test for fold in folds]).tolist()) == list(range(15))


@pytest.mark.parametrize(("tasks", "k"), [(6, 2), (6, 4), (3, 5)])
def test_too_few_tasks(tasks: int, k: int) -> None:
    with pytest.raises(MiscibleError):
        leave_tasks_out(examples(tasks).pairs, k, 5, seed=0)


def test_what_is_asked_for() -> None:
    assert parse_validation("loto,lkto:5") == (True, 5)
    assert parse_validation("lkto") == (False, 5)
    with pytest.raises(MiscibleError, match="no validation named"):
        parse_validation("loto,kfold")
    with pytest.raises(MiscibleError, match="draws"):
        Settings(draws=0)
