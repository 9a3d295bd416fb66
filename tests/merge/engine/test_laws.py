"""Streaming changes nothing: not how many threads, not the chunks, not the definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from merge.engine.recipes import (
    BF16,
    F16,
    F32,
    PARAMETERS,
    SAME,
    assert_one_rounding_apart,
    case_id,
    has_sums,
    recipe_of,
    write_models,
)
from merge.engine.tensors import grid
from miscible.merge.contract import METHODS
from miscible.merge.dense import merge_dense
from miscible.merge.engine.write import write_streamed
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models import writer

Case = tuple[str, dict[str, Any], dict[str, Any]]
DTYPES = {
    "bf16": (BF16,) * 4,
    "f16": (F16,) * 4,
    "f32": (F32,) * 4,
    "mixed": (F32, BF16, F16, BF16),
}
each_case = pytest.mark.parametrize("case", PARAMETERS, ids=map(case_id, PARAMETERS))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    folder = tmp_path_factory.mktemp("models")
    return {name: write_models(folder / name, dtypes) for name, dtypes in DTYPES.items()}


def opened(case: Case, models: dict[str, Path], **keys: Any) -> VirtualCheckpoint:
    return VirtualCheckpoint.open(recipe_of(case, models, **keys), seed=7)


def test_every_streamed_method_has_a_case() -> None:
    covered = {method for method, _, _ in PARAMETERS}
    streamed = {method.name for method in METHODS if method.streams or method.elementwise}
    assert streamed == covered


@each_case
def test_all_that_can_be_is_streamed(case: Case, stored: dict[str, dict[str, Path]]) -> None:
    merge = opened(case, stored["mixed"])
    assert all(merge.streams(name) for name in merge.tensors)


@pytest.mark.parametrize("dtypes", DTYPES)
@each_case
def test_streamed_equals_the_definition(
    monkeypatch: pytest.MonkeyPatch,
    stored: dict[str, dict[str, Path]],
    case: Case,
    dtypes: str,
) -> None:
    merge = opened(case, stored[dtypes])
    with grid(monkeypatch, 1024):
        for name, output in merge.plan.outputs.items():
            wanted = merge_dense(merge.inputs, output, merge.context(output))
            assert_one_rounding_apart(merge.read(name), wanted)
            assert_one_rounding_apart(merge.read(name, torch.float32), wanted)


@pytest.mark.parametrize(
    ("dtype", "out_dtype"),
    [
        ("bfloat16", None), ("float16", None), ("float32", "bfloat16"), (None, "float16"),
        ("bfloat16", "float32"), ("float16", "float32"), ("float16", "bfloat16"),
        (None, "float64"), ("float64", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtypes", ["f32", "mixed"])
@pytest.mark.parametrize("case", PARAMETERS[::4], ids=map(case_id, PARAMETERS[::4]))
def test_dtype_and_out_dtype(
    stored: dict[str, dict[str, Path]],
    case: Case,
    dtypes: str,
    dtype: str | None,
    out_dtype: str | None,
) -> None:
    keys = {key: v for key, v in (("dtype", dtype), ("out_dtype", out_dtype)) if v}
    merge = opened(case, stored[dtypes], **keys)
    expected = getattr(torch, str(out_dtype or dtype))
    for name, output in merge.plan.outputs.items():
        found = merge.read(name)
        assert found.dtype == expected
        assert_one_rounding_apart(found, merge_dense(merge.inputs, output, merge.context(output)))


@pytest.mark.parametrize("chunk", [1024, 1 << 18])
@each_case
def test_threads_do_not_show(
    monkeypatch: pytest.MonkeyPatch,
    stored: dict[str, dict[str, Path]],
    tmp_path: Path,
    case: Case,
    chunk: int,
) -> None:
    monkeypatch.setattr(writer, "LARGE_BYTES", 4000)  # so that chunks are shared by threads
    merge = opened(case, stored["mixed"], out_dtype="bfloat16")
    written = {}
    with grid(monkeypatch, chunk, held=chunk > 1024):
        for threads in (1, 2, 5):
            out = tmp_path / str(threads)
            write_streamed(merge, out, texts=lambda shards, doses: {}, threads=threads)
            written[threads] = (out / "model.safetensors").read_bytes()
        assert written[1] == written[2] == written[5]
        with grid(monkeypatch, chunk):
            held = {name: merge.read(name) for name in merge.tensors}
    from miscible.models import FolderCheckpoint

    folder = FolderCheckpoint(tmp_path / "1")
    assert all(folder.read(name).equal(tensor) for name, tensor in held.items())


# Sums over a tensor are added up chunk by chunk, so their last bits may show.
WITHOUT_SUMS = [case for case in PARAMETERS if not has_sums(case)]


@pytest.mark.parametrize("case", WITHOUT_SUMS, ids=map(case_id, WITHOUT_SUMS))
def test_chunks_do_not_show(
    monkeypatch: pytest.MonkeyPatch, stored: dict[str, dict[str, Path]], case: Case
) -> None:
    merge = opened(case, stored["mixed"])
    results = []
    for chunk in (1024, 3072, 1 << 18):
        with grid(monkeypatch, chunk):
            results.append({name: merge.read(name) for name in merge.tensors})
    for name in merge.tensors:
        assert all(result[name].equal(results[0][name]) for result in results), name


@each_case
def test_what_no_model_changed_stays(case: Case, stored: dict[str, dict[str, Path]]) -> None:
    merge = opened(case, stored["bf16"])
    output = merge.plan.outputs[SAME]
    if output.method.keeps_what_is_common(output.values):
        base = merge.inputs.models[output.named[0].model].read(SAME)
        assert merge.read(SAME).equal(base)
