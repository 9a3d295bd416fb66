"""Matching rows by token, against a reference that follows the rules token by token."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from miscible.errors import CheckpointError, IncompatibleModelsError, MiscibleError, RecipeError
from miscible.merge.embeddings import DONATED, PADDING, Alignment, align, aligned_rows, mean_row
from miscible.merge.recipe import Recipe, parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models import FolderCheckpoint
from tiny import tiny_tensors, write_model

WIDTH = 3
EMBEDDING = "model.embed_tokens.weight"


def write(folder: Path, vocabulary: dict[str, int] | None, rows: int, seed: int) -> Path:
    """Write a model of nothing but an embedding, a head and its bias."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        EMBEDDING: torch.randn(rows, WIDTH, generator=generator),
        "lm_head.weight": torch.randn(rows, WIDTH, generator=generator),
        "lm_head.bias": torch.randn(rows, generator=generator),
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"vocab_size": rows}))
    (folder / "tokenizer.json").unlink(missing_ok=True)
    if vocabulary is not None:
        data = {"added_tokens": [], "model": {"type": "WordLevel", "vocab": vocabulary}}
        (folder / "tokenizer.json").write_text(json.dumps(data))
    return folder


def numbered(*tokens: str) -> dict[str, int]:
    return {token: i for i, token in enumerate(tokens)}


def matched(
    folders: list[Path], *, base: Path | None = None, **keys: Any
) -> tuple[Alignment | None, dict[str, FolderCheckpoint]]:
    """Align models by a recipe with these keys; a model is named by its folder's name."""
    recipe = Recipe.model_validate(
        {
            "merge_method": "linear", "models": [{"model": f.name} for f in folders],
            "base_model": base.name if base else None, **keys,
        }
    )  # fmt: skip
    opened = {f.name: FolderCheckpoint(f) for f in ([base] if base else []) + folders}
    models = {reference: opened[reference] for reference in recipe.references()}
    return align(recipe, models, recipe.references()[0]), models


def reader(
    models: dict[str, FolderCheckpoint], name: str = EMBEDDING
) -> Callable[[str, int, int], np.ndarray]:
    held = {reference: model.read(name).numpy() for reference, model in models.items()}
    return lambda reference, start, stop: held[reference][start:stop]


def whole(alignment: Alignment, models: dict[str, FolderCheckpoint], reference: str) -> np.ndarray:
    return aligned_rows(alignment, reference, reader(models), 0, alignment.rows)


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    return [
        write(tmp_path / "a", numbered("p", "q", "r"), 3, 1),
        write(tmp_path / "b", numbered("r", "p", "new", "more"), 4, 2),
    ]


def test_a_union_counts_on_from_the_first_model(pair: list[Path]) -> None:
    found, models = matched(pair, tokenizer={"source": "union"})
    assert found is not None
    assert found.vocabulary == numbered("p", "q", "r", "new", "more")
    assert found.maps["a"].rows.tolist() == [0, 1, 2, DONATED, DONATED]
    assert found.maps["b"].rows.tolist() == [1, DONATED, 0, 2, 3]
    a, b = (models[r].read(EMBEDDING).numpy() for r in "ab")
    assert np.array_equal(whole(found, models, "a"), np.stack([a[0], a[1], a[2], b[2], b[3]]))
    assert np.array_equal(whole(found, models, "b"), np.stack([b[1], a[1], b[0], b[2], b[3]]))
    bias = aligned_rows(found, "b", reader(models, "lm_head.bias"), 0, 5)
    held = {r: models[r].read("lm_head.bias").numpy() for r in "ab"}
    expected = [held["b"][1], held["a"][1], held["b"][0], held["b"][2], held["b"][3]]
    assert np.array_equal(bias, np.array(expected))
    assert all(found.concerns("a", name) for name in models["a"].tensors)
    assert found.shape("a", EMBEDDING, (3, 7)) == (5, 7)
    reversed_, _ = matched(pair[::-1], tokenizer={"source": "union"})
    assert reversed_ is not None
    assert reversed_.vocabulary == numbered("r", "p", "new", "more", "q")


def test_absent_rows_are_the_bases_or_the_donors_mean(tmp_path: Path) -> None:
    base = write(tmp_path / "base", numbered("p", "q"), 2, 0)
    one = write(tmp_path / "one", numbered("p", "x", "y"), 3, 1)
    two = write(tmp_path / "two", numbered("x", "q"), 2, 2)
    found, models = matched([one, two], base=base, tokenizer_source="union")
    assert found is not None
    assert found.vocabulary == numbered("p", "q", "x", "y")
    of = {r: models[r].read(EMBEDDING).numpy() for r in models}
    assert np.array_equal(whole(found, models, "two")[0], of["base"][0])  # one has it too
    assert np.array_equal(whole(found, models, "one")[1], of["base"][1])
    mean = (of["one"][1].astype(np.float64) + of["two"][0]) / 2
    assert np.array_equal(whole(found, models, "base")[2], mean.astype(np.float32))
    assert np.array_equal(whole(found, models, "base")[3], of["one"][2])
    without, models = matched([base, one, two], tokenizer_source="union")
    assert without is not None
    mean = (of["base"][0].astype(np.float64) + of["one"][0]) / 2
    assert np.array_equal(whole(without, models, "two")[0], mean.astype(np.float32))


def test_entries_of_tokens(pair: list[Path]) -> None:
    tokens = {
        "new": {"source": {"kind": "zero"}},
        "p": {"source": {"kind": "zero"}},  # both have it: nothing to fill
        "q": {"source": {"kind": "model_token", "model": "b", "token_id": 3}},
        "r": {"source": "b", "force": True},
        "<s>": {"source": {"kind": "model_token", "model": "a", "token": "q"}},
        "<t>": None,
    }
    found, models = matched(pair, tokenizer={"source": "a", "tokens": tokens})
    assert found is not None
    assert found.vocabulary == numbered("p", "q", "r", "new", "<s>", "<t>")
    a, b = (models[r].read(EMBEDDING).numpy() for r in "ab")
    zero = np.zeros(WIDTH, np.float32)
    assert np.array_equal(whole(found, models, "a"), np.stack([a[0], a[1], b[0], zero, a[1], zero]))
    assert np.array_equal(whole(found, models, "b"), np.stack([b[1], b[3], b[0], b[2], a[1], zero]))
    assert found.unheld == ("<t>",)


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ({"source": "c"}, "none of the recipe's models"),
        ({"pad_to_multiple_of": 0}, "from 1 to 1048576. Got 0"),
        ({"pad_to_multiple_of": 10**12}, "from 1 to 1048576"),
        ({"tokens": {"x": {"source": "c"}}}, "'x': 'c' is none of the recipe's models"),
        ({"tokens": {"x": {"source": "a"}}}, "'x': a has no row for the token 'x'"),
        ({"tokens": {"x": 3}}, "a mapping with source and force is needed"),
        ({"tokens": {"": {}}}, "'' cannot be a token"),
        ({"tokens": {"\ud800": {}}}, "'\\ud800' cannot be a token"),
        ({"tokens": {"x": {"sauce": "a"}}}, "unknown key 'sauce'. Did you mean 'source'?"),
        ({"tokens": {"p": {"source": "a", "force": "yes"}}}, "'force' must be true or false"),
        ({"tokens": {"x": {"source": {"kind": "mean"}}}}, "the source 'mean' is neither"),
        ({"tokens": {"x": {"source": {"kind": "zero", "model": "a"}}}}, "unknown key 'model'"),
        (
            {"tokens": {"x": {"source": {"kind": "model_token", "model": "a"}}}},
            "exactly one of 'token' and 'token_id'",
        ),
        (
            {"tokens": {"x": {"source": {"kind": "model_token", "model": "a", "token_id": 3}}}},
            "a has no row for the id 3",
        ),
        (
            {"tokens": {"x": {"source": {"kind": "model_token", "model": "a", "token_id": -1}}}},
            "a has no row for the id -1",
        ),
        (
            {"tokens": {"x": {"source": {"kind": "model_token", "model": "a", "token_id": "0"}}}},
            "'token_id' must be a whole number",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(pair: list[Path], tokenizer: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        matched(pair, tokenizer=tokenizer)
    assert message in str(caught.value)


def test_both_ways_of_writing_it_at_once_are_refused(pair: list[Path]) -> None:
    with pytest.raises(RecipeError, match="say the same"):
        matched(pair, tokenizer={}, tokenizer_source="base")


@pytest.mark.parametrize(("multiple", "nobodys"), [(4, [2, 3, 5, 6, 7]), (5, [2, 3])])
def test_padding_rows_and_gaps_are_the_mean_of_the_others(
    tmp_path: Path, multiple: int, nobodys: list[int]
) -> None:
    gap = write(tmp_path / "gap", {"p": 0, "q": 1, "r": 4}, 5, 1)
    other = write(tmp_path / "other", {"r": 0, "q": 1, "p": 2}, 6, 2)
    found, models = matched([gap, other], tokenizer={"pad_to_multiple_of": multiple})
    assert found is not None
    assert (found.rows, found.padded) == (3 + len(nobodys), True)
    assert np.flatnonzero(found.maps["gap"].rows == PADDING).tolist() == nobodys
    for name, rows in (("gap", [0, 1, 4]), ("other", [2, 1, 0])):
        stored = models[name].read(EMBEDDING).numpy()
        mean = stored[rows].mean(axis=0, dtype=np.float64).astype(np.float32)
        assert np.array_equal(whole(found, models, name)[nobodys], [mean] * len(nobodys))
        assert np.array_equal(whole(found, models, name)[[0, 1, 4]], stored[rows])
        assert np.array_equal(mean_row(found, name, reader(models)), mean)


def test_rows_beyond_the_vocabulary_go_and_tokens_beyond_the_rows_are_absent(
    tmp_path: Path,
) -> None:
    padded = write(tmp_path / "padded", numbered("p", "q"), 8, 1)
    short = write(tmp_path / "short", numbered("p", "q", "late", "later"), 3, 2)
    found, models = matched([padded, short], tokenizer_source="union")
    assert found is not None
    assert found.vocabulary == numbered("p", "q", "late")  # no model has a row for "later"
    assert found.rows == 3
    found, models = matched([short, padded], tokenizer_source="base")
    assert found is not None
    assert found.rows == 4
    assert (found.unheld, whole(found, models, "short")[3].any()) == (("later",), False)
    assert "No model has a row for 1 tokens ('later')" in found.warnings[0]


def test_nothing_is_matched_where_nothing_changes(pair: list[Path], tmp_path: Path) -> None:
    same = write(tmp_path / "same", numbered("p", "q", "r"), 3, 5)
    for keys in ({}, {"tokenizer_source": "union"}, {"tokenizer": {"source": "same"}}):
        assert matched([pair[0], same], **keys)[0] is None
    assert matched([pair[0], same], tokenizer={"pad_to_multiple_of": 3})[0] is None
    assert matched([pair[0], same], tokenizer={"pad_to_multiple_of": 2})[0] is not None
    forced = {"tokens": {"p": {"source": {"kind": "zero"}, "force": True}}}
    assert matched([pair[0], same], tokenizer=forced)[0] is not None
    bare = [write(tmp_path / n, None, 3, i) for i, n in enumerate(("bare", "naked"))]
    assert matched(bare, tokenizer_source="union")[0] is None


def test_a_model_without_a_tokenizer_is_taken_to_have_the_sources(
    pair: list[Path], tmp_path: Path
) -> None:
    bare = write(tmp_path / "bare", None, 3, 3)
    found, _ = matched([bare, *pair], tokenizer_source="union")
    assert found is not None
    assert found.vocabulary == numbered("p", "q", "r", "new", "more")
    assert found.maps["bare"].rows.tolist() == found.maps["a"].rows.tolist()
    assert found.assumed == ("bare",)
    assert "bare has no tokenizer" in found.warnings[0]
    with pytest.raises(IncompatibleModelsError, match="4 rows where a has 3"):
        matched([write(tmp_path / "bare", None, 4, 3), *pair], tokenizer_source="union")
    with pytest.raises(IncompatibleModelsError, match=r"bare: the model has no tokenizer"):
        matched([*pair, bare], tokenizer_source="bare")


def test_ambiguous_and_absurd_vocabularies_are_refused(pair: list[Path], tmp_path: Path) -> None:
    for vocabulary, message in (
        ({"p": 0, "q": 0}, "the same id"),
        ({"p": 0, "q": 2**30}, "far beyond the model's 3 rows"),
    ):
        wrong = write(tmp_path / "wrong", vocabulary, 3, 4)
        with pytest.raises(CheckpointError, match=message):
            matched([wrong, *pair], tokenizer_source="union")
        matched([*pair, wrong], tokenizer_source="union")  # rows of another's can be found


def test_the_key_changes_with_the_matching_alone(pair: list[Path], tmp_path: Path) -> None:
    def key(folders: list[Path], **tokenizer: Any) -> str:
        found, _ = matched(folders, tokenizer=tokenizer)
        assert found is not None
        return found.key

    elsewhere = tmp_path / "elsewhere"
    copies = [
        write(elsewhere / "c", numbered("p", "q", "r"), 3, 8),
        write(elsewhere / "d", numbered("r", "p", "new", "more"), 4, 9),
    ]
    assert key(pair) == key(copies)
    others = [key(pair[::-1]), key(pair, source="base"), key(pair, pad_to_multiple_of=8)]
    zero = {"new": {"source": {"kind": "zero"}, "force": True}}
    assert len({key(pair), *others, key(pair, tokens=zero)}) == 5


def test_memory_is_that_of_the_rows_asked_for(tmp_path: Path) -> None:
    rows, chunk = 4000, 100
    tokens = [f"t{i}" for i in range(rows)]
    order = np.random.default_rng(0).permutation(rows)
    one = write(tmp_path / "one", numbered(*tokens), rows, 1)
    two = write(tmp_path / "two", {t: int(i) for t, i in zip(tokens, order, strict=True)}, rows, 2)
    found, models = matched([one, two], tokenizer={"pad_to_multiple_of": 128})
    assert found is not None
    read, asked = reader(models), []

    def counting(reference: str, start: int, stop: int) -> np.ndarray:
        asked.append(stop - start)
        return read(reference, start, stop)

    mean = mean_row(found, "two", read)
    pieces = []
    for start in range(0, found.rows, chunk):
        asked.clear()
        stop = min(start + chunk, found.rows)
        pieces.append(aligned_rows(found, "two", counting, start, stop, mean=mean))
        assert sum(asked) <= 3 * chunk + 1
    assert np.array_equal(np.concatenate(pieces)[:rows], read("two", 0, rows)[order])
    assert np.array_equal(np.concatenate(pieces), whole(found, models, "two"))


TOKENS = ["p", "q", "r", "s", "t", "u"]
VOCABULARIES = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=6, unique=True).flatmap(
    lambda tokens: st.tuples(st.just(tokens), st.integers(1, len(tokens) + 3))
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    held=st.lists(VOCABULARIES, min_size=1, max_size=4),
    with_base=st.booleans(),
    source=st.integers(-2, 3),
    multiple=st.sampled_from([None, 1, 4]),
    zero=st.none() | st.tuples(st.sampled_from([*TOKENS, "z"]), st.booleans()),
)
def test_agrees_with_the_rules_token_by_token(
    tmp_path: Path,
    held: list[tuple[list[str], int]],
    with_base: bool,
    source: int,
    multiple: int | None,
    zero: tuple[str, bool] | None,
) -> None:
    fresh = Path(mkdtemp(dir=tmp_path))
    folders = [
        write(fresh / f"m{i}", numbered(*tokens), rows, i) for i, (tokens, rows) in enumerate(held)
    ]
    name = "union" if source == -2 else "base" if source == -1 else f"m{source % len(held)}"
    tokenizer: dict[str, Any] = {"source": name, "pad_to_multiple_of": multiple}
    if zero is not None:
        tokenizer["tokens"] = {zero[0]: {"source": {"kind": "zero"}, "force": zero[1]}}
    found, models = matched(folders, base=folders[0] if with_base else None, tokenizer=tokenizer)
    stored = [models[f.name].read(EMBEDDING).numpy() for f in folders]

    start = int(name[1:]) if name.startswith("m") else 0
    vocabulary = list(held[start][0])
    if name == "union":
        for tokens, rows in held:
            vocabulary += [t for t in tokens[:rows] if t not in vocabulary]
    if zero is not None and zero[0] not in vocabulary:
        vocabulary.append(zero[0])
    count = len(vocabulary)
    while multiple and count % multiple:
        count += 1
    expected = np.zeros((len(held), count, WIDTH))
    for place, token in enumerate(vocabulary):
        own = {
            i: stored[i][tokens.index(token)]
            for i, (tokens, rows) in enumerate(held)
            if token in tokens and tokens.index(token) < rows
        }
        donors = [own[0]] if with_base and 0 in own else list(own.values())
        fill = np.mean(np.array(donors, dtype=np.float64), axis=0) if donors else np.zeros(WIDTH)
        ruled = zero is not None and zero[0] == token
        if ruled:
            fill = np.zeros(WIDTH)
        for i in range(len(held)):
            forced = ruled and zero is not None and zero[1]
            expected[i, place] = own[i] if i in own and not forced else fill
    expected[:, len(vocabulary) :] = expected[:, : len(vocabulary)].mean(axis=1, keepdims=True)

    if found is None:
        assert all(np.array_equal(e, s) for e, s in zip(expected, stored, strict=True))
        return
    assert found.vocabulary == numbered(*vocabulary)
    for i, folder in enumerate(folders):
        ours = whole(found, models, folder.name)
        assert ours.shape == expected[i].shape
        np.testing.assert_allclose(ours, expected[i], rtol=2**-23, atol=1e-7)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["source", "force", "kind", "model", "token", "token_id", "x"]),
                inner | st.sampled_from(["zero", "model_token", "a"]),
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_any_entry_of_tokens_is_understood_or_refused(pair: list[Path], value: Any) -> None:
    try:
        matched(pair, tokenizer={"tokens": {"p": value}})
    except MiscibleError as error:
        assert str(error)


def test_padding_of_a_tied_model_does_not_depend_on_what_is_read_first(tmp_path: Path) -> None:
    tied, other = tiny_tensors(1), tiny_tensors(2)
    rows, width = tied["model.embed_tokens.weight"].shape
    other["model.embed_tokens.weight"] = torch.randn(rows + 1, width)
    other["lm_head.weight"] = torch.randn(rows + 1, width)
    words = [f"w{i}" for i in range(rows - 3)]
    a = write_model(tmp_path / "a", tied, words=words)
    b = write_model(tmp_path / "b", other, words=[*words, "new"])
    recipe = parse_recipe(
        f"merge_method: linear\nparameters: {{weight: 1}}\n"
        f"models: [{{model: {a}}}, {{model: {b}}}]\n"
        "tokenizer: {source: union, pad_to_multiple_of: 64}\n"
    )
    merge, again = VirtualCheckpoint.open(recipe), VirtualCheckpoint.open(recipe)
    head = merge.read("lm_head.weight")
    again.read("model.embed_tokens.weight")
    assert torch.equal(again.read("lm_head.weight"), head)
    torch.testing.assert_close(head[-1], head[: rows + 1].mean(dim=0))
