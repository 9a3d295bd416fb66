"""Sources of variation by role."""

import numpy as np
import pytest

from miscible.predict.effects.covariance import MEDIANS, medians
from miscible.predict.effects.terms import Terms
from predict.effects.crossed import METRICS, world


def test_every_source_has_a_share_of_what_is_expected_of_its_role():
    pairs = world(8).examples.pairs
    sources = list(Terms.of(pairs, ("activation",)).between(pairs, pairs))
    found = dict(zip(sources, medians(sources), strict=True))
    assert sum(found.values()) == pytest.approx(sum(MEDIANS.values()))
    special = {"pair", "pair activation", "pair task_vector"}
    assert {name for name in sources if name.startswith("pair")} == special
    assert sum(found[name] for name in special) == pytest.approx(MEDIANS["pair"])
    assert found["own model"] == found["own zero_shot"] == found["own profile"]


def test_pairs_alike_in_a_category_covary_by_it():
    pairs = world(8).examples.pairs
    terms = Terms.of(pairs, ("activation",))
    sources = terms.between(pairs, pairs)
    _, special = terms.profiles.apart(pairs)
    columns = [METRICS.index(name) for name in METRICS if name.startswith("activation")]
    expected = special[:, columns] @ special[:, columns].T / len(columns)
    directions = sources["pair activation"].reshape(2, 28, 2, 28)
    assert directions == pytest.approx(np.broadcast_to(expected[:, None], (2, 28, 2, 28)))
