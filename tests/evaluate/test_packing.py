"""Packs hold every request exactly, within the budget, each shared prefix once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from miscible.evaluate import packing
from miscible.evaluate.packing import Query, plan_packs

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=12)


@st.composite
def queries(draw: st.DrawFn) -> list[Query]:
    stems = draw(st.lists(st.lists(st.integers(0, 2), max_size=80), min_size=1, max_size=3))
    drawn = []
    for _ in range(draw(st.integers(1, 12))):
        tokens = [*draw(st.sampled_from(stems)), *draw(TOKENS)]
        scored = draw(st.integers(1, len(tokens)))
        drawn.append(Query(tuple(tokens), tuple(draw(TOKENS) * 100)[:scored]))
    return list(dict.fromkeys(drawn))


@given(queries(), st.integers(1, 120))
def test_every_token_sees_its_own_prefix(asked: list[Query], budget: int) -> None:
    cached: list[int] = []
    answered = []
    for pack in plan_packs(asked, budget):
        assert pack.kept == len(cached)
        visible = pack.visible()
        for index, nodes in pack.members:
            query = asked[index]
            for node, position in zip(nodes, range(query.unscored, len(query.tokens)), strict=True):
                seen = [n for n in range(len(pack.tokens)) if visible[node, pack.kept + n]]
                path = cached + [pack.tokens[n] for n in seen]
                assert path == list(query.tokens[: position + 1])
                assert pack.depths[node] == position
                assert visible[node, : pack.kept].all()
            answered.append(index)
        row = cached + pack.tokens
        cached = row[: pack.keep]
        assert pack.is_chain == (
            not pack.kept and bool((visible.sum(1) == range(1, len(visible) + 1)).all())
        )
    assert sorted(answered) == list(range(len(asked)))


@given(queries(), st.integers(1, 120))
def test_budget_is_kept_unless_one_query_exceeds_it(asked: list[Query], budget: int) -> None:
    for pack in plan_packs(asked, budget):
        alone = len({asked[index].tokens for index, _ in pack.members}) == 1
        assert len(pack.tokens) <= budget or alone


def test_shared_prefix_is_computed_once_in_one_pack() -> None:
    stem = tuple(range(50))
    asked = [Query((*stem, 100 + i), (7,)) for i in range(5)]
    (pack,) = plan_packs(asked, budget=1000)
    assert len(pack.tokens) == 55


def test_long_prefix_survives_from_pack_to_pack() -> None:
    stem = tuple(range(packing.MIN_KEPT + 10))
    asked = [Query((*stem, 100 + i, 200 + i), (7,)) for i in range(40)]
    packs = plan_packs(asked, budget=len(stem) + 10)
    assert len(packs) > 1
    assert sum(len(pack.tokens) for pack in packs) == len(stem) + 80


def test_a_scored_position_is_never_left_to_the_cache() -> None:
    stem = tuple(range(60))
    # Later members of a pack, too, may score positions early in the shared prefix.
    asked = [Query((*stem, 100 + i), tuple(range(1 + 20 * (i % 2)))) for i in range(20)]
    packs = plan_packs(asked, budget=70)
    assert any(pack.kept for pack in packs)
    for pack in packs:
        assert all(pack.kept <= asked[index].unscored for index, _ in pack.members)
