"""Whatever a recipe says, it is a plan or one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuzz.examples import fuzz
from miscible.errors import MiscibleError
from miscible.merge.contract import METHODS, WRAPPERS, Base
from miscible.merge.recipe import Recipe, parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from tiny import WIDTH, WORDS, tiny_tensors, write_adapter, write_model

MODELS = ["base", "a", "b", "words", "deep", "base+lora", "a+lora"]
references = st.one_of(
    st.sampled_from(MODELS[:3]),
    st.sampled_from(MODELS),
    st.sampled_from(["nowhere", "", ".", "base+", "+lora", "base+lora+lora", "lora", "demo:no"]),
)
PARAMETERS = sorted({name for method in METHODS for name in method.parameters})
KEYS = sorted(Recipe.model_fields)

numbers = st.one_of(
    st.sampled_from([0, 0.5, 1, -1, 0.0, 2, 1e-3, 1e300, 10**400]),
    st.floats(), st.integers(-3, 5), st.sampled_from(["1e-3", ".5", "0x10", "1_0"]),
)  # fmt: skip
scalars = st.one_of(
    numbers, st.booleans(), st.none(), st.text(max_size=5),
    st.sampled_from(["signs", "magnitude", "*", "role:mlp", "layer:0-1", "layer:", "2001-01-01"]),
)  # fmt: skip
filtered = st.fixed_dictionaries(
    {"value": scalars},
    optional={"filter": st.one_of(st.sampled_from(["mlp", "self_attn", "*", "role:x"]), scalars)},
)
settings_of = st.one_of(
    numbers, numbers, st.lists(numbers, max_size=4), st.lists(filtered, max_size=3), filtered,
    st.lists(st.one_of(filtered, numbers), max_size=3), scalars,
)  # fmt: skip
names = st.one_of(st.sampled_from(["weight", "density", "t", "normalize", "lambda"]),
                  st.sampled_from(PARAMETERS))  # fmt: skip
parameters = st.one_of(
    st.just({"weight": 0.5}), st.just({"weight": 1.0, "density": 0.5}), st.none(),
    st.dictionaries(names, settings_of, max_size=3),
    st.dictionaries(st.one_of(names, st.text(max_size=4)), settings_of, max_size=2),
)  # fmt: skip
ranges = st.lists(st.integers(-1, 4), min_size=0, max_size=3)
sources = st.fixed_dictionaries(
    {"model": references},
    optional={"parameters": parameters, "align": st.just("git_rebasin")},
)
cut_sources = st.fixed_dictionaries(
    {"model": references}, optional={"parameters": parameters, "layer_range": ranges}
)
slices = st.lists(
    st.fixed_dictionaries(
        {"sources": st.lists(cut_sources, max_size=3)}, optional={"parameters": parameters}
    ),
    max_size=3,
)
models = st.lists(sources, min_size=0, max_size=3)
modules = st.dictionaries(
    st.sampled_from(["model", "default", "layers", "lm_head", "x"]),
    st.one_of(
        st.fixed_dictionaries({"models": models}, optional={"parameters": parameters}),
        st.fixed_dictionaries({"slices": slices}),
    ),
    max_size=2,
)
token_rules = st.dictionaries(
    st.sampled_from([*WORDS[:3], "<s>", "<new>", ""]),
    st.one_of(
        scalars,
        st.fixed_dictionaries(
            {},
            optional={
                "source": st.one_of(
                    references,
                    st.fixed_dictionaries(
                        {"kind": st.sampled_from(["zero", "model_token", "x"])},
                        optional={"model": references, "token_id": numbers, "token": scalars},
                    ),
                ),
                "force": st.booleans(),
            },
        ),
    ),
    max_size=2,
)
OTHERS: dict[str, st.SearchStrategy[Any]] = {
    "base_model": references,
    "parameters": parameters,
    "dtype": st.sampled_from(["float32", "bfloat16", "float16", "float64", "int8", None]),
    "out_dtype": st.sampled_from(["float32", "bfloat16", "float16", "float64", "bf16"]),
    "tokenizer_source": st.one_of(st.sampled_from(["union", "base"]), references),
    "tokenizer": st.fixed_dictionaries(
        {}, optional={
            "source": st.one_of(st.sampled_from(["union", "base"]), references),
            "tokens": token_rules,
            "pad_to_multiple_of": st.one_of(st.integers(-1, 64), scalars),
        }
    ),
    "chat_template": st.one_of(st.sampled_from(["auto", "chatml", "{{ x", "alpaca"]), scalars),
    "wrap": st.lists(
        st.one_of(
            st.sampled_from(sorted(WRAPPERS.names())),
            st.dictionaries(st.sampled_from(sorted(WRAPPERS.names())), parameters, max_size=2),
            scalars,
        ),
        max_size=2,
    ),
    "layout": st.fixed_dictionaries(
        {}, optional={"layers": st.one_of(scalars, st.lists(scalars, max_size=2)),
                      "roles": st.dictionaries(st.text(max_size=3), scalars, max_size=2)}
    ),
    "coefficients": st.sampled_from(["nowhere.yml", "", "."]),
    "slices": slices,
    "modules": modules,
}  # fmt: skip


REQUIRED = {"weight": 0.5, "density": 0.5, "t": 0.3, "scale": 0.7}


def sound(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    """Make a recipe that can be carried out, but for one key perhaps."""
    method = METHODS.get(document["merge_method"])
    count = draw(st.integers(method.least, min(method.most or 3, 3)))
    document["models"] = [{"model": name} for name in draw(st.permutations(MODELS[1:6]))[:count]]
    document["parameters"] = {k: v for k, v in REQUIRED.items() if k in method.parameters}
    document["tokenizer"] = {"source": "union"}
    if method.base is not Base.INPUT:
        document["base_model"] = "base"
    if method.base is Base.FIRST:
        document["models"] = document["models"][:1]
    for name in draw(st.lists(st.sampled_from(sorted(method.parameters) or ["x"]), max_size=1)):
        document["parameters"][name] = draw(settings_of)
    for key in draw(st.lists(st.sampled_from(sorted(OTHERS)), max_size=1)):
        document[key] = draw(OTHERS[key])
    return document


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Return a document near the grammar of recipes."""
    document: dict[str, Any] = {"merge_method": draw(st.sampled_from(METHODS.names()))}
    if draw(st.booleans()):
        return sound(draw, document)
    way = draw(st.sampled_from(["models", "models", "models", "slices", "modules"]))
    document[way] = draw({"models": models, "slices": slices, "modules": modules}[way])
    if draw(st.booleans()):
        document["base_model"] = draw(references)
    for key in draw(st.lists(st.sampled_from(sorted(OTHERS)), max_size=3, unique=True)):
        document[key] = draw(OTHERS[key])
    if draw(st.integers(0, 9)) == 0:
        document[draw(st.one_of(st.sampled_from(KEYS), st.text(max_size=6)))] = draw(scalars)
    return document


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(["base", "a", "b"]):
        write_model(place / name, tiny_tensors(seed, [torch.float32, torch.bfloat16][seed % 2]))
    longer = tiny_tensors(5)
    rows = torch.randn(len(WORDS) + 5, WIDTH)
    write_model(place / "words", {**longer, "model.embed_tokens.weight": rows},
                words=[*WORDS[::-1], "one", "more"])  # fmt: skip
    deeper = {
        name.replace("layers.1.", "layers.2."): tensor.clone()
        for name, tensor in longer.items()
        if "layers.1" in name
    }
    write_model(place / "deep", {**longer, **deeper})
    config = json.loads((place / "deep" / "config.json").read_text())
    (place / "deep" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    module = "model.layers.0.self_attn.q_proj"
    write_adapter(place / "lora", {module: (torch.ones(2, WIDTH), torch.ones(WIDTH, 2))})
    return place


def check(text: str, folder: Path) -> str:
    """Parse and plan a recipe, and compute a tensor of each kind; return how far it came."""
    try:
        recipe = parse_recipe(text, "recipe.yml")
    except MiscibleError as error:
        assert "recipe.yml" in str(error) or str(error)
        return "refused"
    again = parse_recipe(recipe.to_yaml())
    assert again.model_dump_json() == recipe.model_dump_json()
    assert again.renamed({}).model_dump_json() == recipe.model_dump_json()
    recipe.with_file_names()
    try:
        merge = VirtualCheckpoint.open(recipe, relative_to=folder)
    except MiscibleError as error:
        assert str(error).strip()
        return "not planned"
    assert list(merge.tensors) == list(merge.plan.outputs)
    assert merge.warnings is not None
    assert merge.quick_key
    try:
        assert merge.config
        merge.tokenizer_files()
        for name in list(merge.tensors)[:2] + list(merge.tensors)[-1:]:
            tensor = merge.read(name)
            assert tuple(tensor.shape) == merge.tensors[name].shape
            assert not tensor.is_floating_point() or tensor.isfinite().all()
    except MiscibleError as error:
        assert str(error).strip()
        return "planned"
    return "read"


@pytest.fixture(scope="module", autouse=True)
def within(folder: Path) -> Any:
    """Names that are no folders of ours must not be looked for elsewhere."""
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.setenv("HF_HUB_OFFLINE", "1")
    yield
    patch.undo()


outcomes: dict[str, int] = {}


@settings(fuzz, max_examples=fuzz.max_examples // 2)  # each opens, plans and computes
@given(document=documents())
def test_documents_near_the_grammar(folder: Path, document: dict[str, Any]) -> None:
    outcome = check(yaml.safe_dump(document, allow_unicode=True), folder)
    outcomes[outcome] = outcomes.get(outcome, 0) + 1


def test_many_of_them_are_carried_out() -> None:
    """The search is of use only if it gets behind the parser."""
    total = sum(outcomes.values())
    assert total > 50
    assert outcomes.get("read", 0) > total / 20, outcomes
    assert outcomes.get("not planned", 0) > total / 20, outcomes


RECIPE = """\
# comment
merge_method: ties
base_model: base
models:
- model: a
  parameters: {weight: 0.5, density: [0.1, 0.9]}
- model: b
  parameters:
    weight:
    - {filter: mlp, value: 0.3}
    - value: 0.6
parameters: {normalize: true}
dtype: bfloat16
tokenizer: {source: union, tokens: {the: {source: a, force: true}}}
"""


@fuzz
@given(data=st.data())
@example(data=None)
def test_texts_near_a_recipe(folder: Path, data: st.DataObject | None) -> None:
    text = RECIPE
    if data is None:
        assert check(text, folder) == "read"
        return
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        size = data.draw(st.integers(0, 12))
        pieces = ["", "- ", ": ", "{", "}", "[", "]", "&a ", "*a", "!!float ", "'", '"', "\t", "\n",
                  "null", "~", "? ", "<<: ", "|", ">", "%", "\ud800", "\x85", "1e999"]  # fmt: skip
        fresh = data.draw(st.one_of(st.sampled_from(pieces), st.text(max_size=6)))
        text = text[:place] + fresh + text[place + size :]
    check(text, folder)
