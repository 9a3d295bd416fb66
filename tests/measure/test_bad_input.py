"""What is wrong with one model is said of that model, and does not lose the others."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from measure.synthetic import State, base_state, child, children
from miscible.errors import CheckpointError, IncompatibleModelsError, MiscibleError
from miscible.measure.api import measure
from miscible.measure.result import Measurement
from tiny import tiny_tensors, write_model


def outcome(bad: State, base: State | None = None) -> Measurement:
    """Measure a bad model between two good ones, and check that these have their values."""
    base = base or base_state()
    good = children(base, 2)
    found = measure(base, {"m0": good["m0"], "bad": bad, "m1": good["m1"]}, cache=False)
    alone = measure(base, good, cache=False).pairs[0]
    between = next(p for p in found.pairs if (p.a, p.b) == ("m0", "m1"))
    for name, value in alone.metrics.items():
        assert between.metrics[name].value == pytest.approx(value.value, rel=1e-9), name
    return found


def reason(found: Measurement, status: str) -> str:
    model = next(model for model in found.models if model.name == "bad")
    assert model.status == status
    for pair in found.pairs:
        if "bad" in (pair.a, pair.b):
            for value in pair.metrics.values():
                assert (value.status, math.isnan(value.value)) == (status, True)
                assert value.reason == f"bad: {model.reason}"
    return model.reason


@pytest.mark.parametrize("tensor", ["embed_tokens.weight", "norm.weight"])
def test_not_a_number(tensor: str) -> None:
    bad = child(base_state(), 7)
    bad[tensor].view(-1)[3] = math.nan
    assert tensor in reason(outcome(bad), "failed")


def test_infinity_in_half_precision() -> None:
    base = base_state(dtype=torch.float16)
    bad = child(base, 7)
    bad["conv.weight"][0, 0, 0, 0] = math.inf
    assert "infinity" in reason(outcome(bad, base), "failed")


def test_another_base() -> None:
    assert "of another base" in reason(outcome(base_state(5)), "excluded")


def test_another_base_may_be_allowed() -> None:
    base = base_state()
    found = measure(base, {"a": base_state(5), "b": child(base, 1)}, cache=False, most_distant=9)
    assert found.models[0].status == "ok"
    assert found.models[0].relative_distance > 1


def test_another_width() -> None:
    bad = {n: torch.randn([2 * e for e in t.shape]) for n, t in base_state().items()}
    text = reason(outcome(bad), "failed")
    assert "another architecture" in text
    assert "[80, 32]" in text


def test_other_names() -> None:
    bad = {f"model.{n}": t for n, t in child(base_state(), 7).items()}
    text = reason(outcome(bad), "failed")
    assert "'model.embed_tokens.weight'" in text
    assert "'embed_tokens.weight'" in text


def test_quantised() -> None:
    bad = child(base_state(), 7)
    bad["layers.0.mlp.up_proj.weight"] = torch.zeros(24, 16, dtype=torch.uint8)
    text = reason(outcome(bad), "failed")
    assert "quantised" in text
    assert "U8" in text


def test_a_quantised_base_is_refused() -> None:
    base = {n: t.to(torch.float8_e4m3fn) for n, t in base_state().items()}
    with pytest.raises(IncompatibleModelsError, match="quantised"):
        measure(base, children(base_state(), 2), cache=False)


def test_a_broken_base_is_refused() -> None:
    base = base_state()
    models = children(base, 2)
    base["norm.weight"] = base["norm.weight"] * math.nan
    with pytest.raises(CheckpointError, match=r"norm\.weight"):
        measure(base, models, cache=False)


def test_tensors_that_only_some_have_are_left_out_and_counted() -> None:
    base = base_state()
    base["position_ids"] = torch.arange(16)
    models = children({n: t for n, t in base.items() if t.is_floating_point()}, 3)
    del models["m1"]["norm.weight"]
    models["m1"]["head.weight"] = torch.randn(3, 16)
    models["m2"]["conv.weight"] = torch.randn(5, 3, 2, 2)
    found = measure(base, models, cache=False)
    model = found.models[1]
    assert (model.missing, model.extra, model.reshaped) == (1, 1, 0)
    assert found.models[2].reshaped == 1
    total = sum(t.numel() for t in base.values() if t.is_floating_point())
    covered = [p.metrics["effective_rank"].coverage * total for p in found.pairs]
    assert covered == pytest.approx([total - 16, total - 48, total - 64])


def test_fewer_than_two_models() -> None:
    base = base_state()
    for models in ({}, children(base, 1)):
        with pytest.raises(MiscibleError, match="nothing to compare"):
            measure(base, models, cache=False)


def test_one_model_twice(tiny_base: Path, tiny_children: list[Path]) -> None:
    with pytest.raises(MiscibleError, match="given twice"):
        measure(tiny_base, [tiny_children[0], tiny_children[0]])


def test_a_model_that_does_not_exist(tiny_base: Path, tiny_children: list[Path]) -> None:
    with pytest.raises(MiscibleError, match="nowhere"):
        measure(tiny_base, [*tiny_children, Path("/nowhere/at/all/model")])


def test_an_unknown_part() -> None:
    base = base_state()
    with pytest.raises(MiscibleError, match="Did you mean 'layer'"):
        measure(base, children(base, 2), by="layers", cache=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("held", [1 << 28, 0], ids=["whole", "in pieces"])
def test_a_file_that_ends_early_meanwhile(
    tmp_path: Path, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miscible.measure.sketch.HELD_BYTES", held)
    base = tiny_tensors(0)
    folders = [write_model(tmp_path / "base", base)]
    for seed in (1, 2, 3):
        noise = tiny_tensors(seed)
        folders.append(
            write_model(tmp_path / f"m{seed}", {n: t + noise[n] / 10 for n, t in base.items()})
        )
    from miscible.models import open_checkpoint

    opened = {folder.name: open_checkpoint(str(folder)) for folder in folders[1:]}
    weights = folders[2] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-600])
    found = measure(folders[0], opened, cache=False)
    assert [model.status for model in found.models] == ["ok", "failed", "ok"]
    assert [p.metrics["stable_rank"].status for p in found.pairs] == ["failed", "ok", "failed"]


def test_a_file_that_is_replaced_meanwhile(tmp_path: Path) -> None:
    base = tiny_tensors(0)
    folders = [write_model(tmp_path / "base", base)]
    for seed in (1, 2):
        noise = tiny_tensors(seed)
        folders.append(
            write_model(tmp_path / f"m{seed}", {n: t + noise[n] / 10 for n, t in base.items()})
        )
    from miscible.models import open_checkpoint

    opened = {folder.name: open_checkpoint(str(folder)) for folder in folders[1:]}
    write_model(folders[2], {n: t + 0.01 for n, t in base.items()})
    found = measure(folders[0], opened, cache=False)
    assert found.models[1].status == "failed"
    assert "changed since" in found.models[1].reason
