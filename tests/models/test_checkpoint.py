from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from miscible.errors import CheckpointError, IncompatibleModelsError, MiscibleError
from miscible.models import FolderCheckpoint, LiveModel, open_checkpoint
from miscible.models import fingerprint as fingerprint_module
from miscible.models.checkpoint import FileCheckpoint, unchanged
from miscible.models.memory import MemoryCheckpoint
from miscible.models.tokenizer import check_same_vocabulary
from miscible.models.writer import write_checkpoint
from tiny import tiny_tensors, write_model


def shard(folder: Path, mapping: dict[str, str] | None = None) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    weight_map = mapping or {name: file for file, held in parts.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_sharded_equals_single(tiny_base: Path, tmp_path: Path) -> None:
    single = FolderCheckpoint(tiny_base)
    other = write_model(tmp_path / "sharded", tiny_tensors(0))
    shard(other)
    sharded = FolderCheckpoint(other)
    assert set(sharded.tensors) == set(single.tensors)
    assert all(single.read(name).equal(sharded.read(name)) for name in single.tensors)


@pytest.mark.parametrize("name", ["../../secret.safetensors", "/etc/passwd", "a/../../b", "C:\\x"])
def test_an_index_cannot_lead_outside(tiny_base: Path, name: str) -> None:
    shard(tiny_base, {"model.norm.weight": name})
    with pytest.raises(CheckpointError, match="outside the model folder"):
        FolderCheckpoint(tiny_base)


def test_an_index_that_lies_is_refused(tiny_base: Path) -> None:
    shard(tiny_base, {"no.such.tensor": "one.safetensors"})
    with pytest.raises(CheckpointError, match="promises tensor"):
        FolderCheckpoint(tiny_base)


def test_pickles_are_refused(tiny_base: Path) -> None:
    (tiny_base / "model.safetensors").rename(tiny_base / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled weights"):
        FolderCheckpoint(tiny_base)


def test_missing_folder_and_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such model folder"):
        FolderCheckpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="there are no weights"):
        FolderCheckpoint(tmp_path)


def test_fingerprint_is_of_the_content(tiny_base: Path, tmp_path: Path) -> None:
    first = FolderCheckpoint(tiny_base).fingerprint
    assert FolderCheckpoint(write_model(tmp_path / "copy", tiny_tensors(0))).fingerprint == first
    assert FolderCheckpoint(write_model(tmp_path / "other", tiny_tensors(1))).fingerprint != first


def test_fingerprint_hashes_a_settled_file_once(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tiny_base / "model.safetensors"
    os.utime(weights, (1e9, 1e9))
    hashed: list[Path] = []
    real = fingerprint_module.file_digest
    monkeypatch.setattr(
        fingerprint_module, "file_digest", lambda path: hashed.append(path) or real(path)
    )
    first = FolderCheckpoint(tiny_base).fingerprint
    assert FolderCheckpoint(tiny_base).fingerprint == first
    assert len(hashed) == 1
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert FolderCheckpoint(tiny_base).fingerprint != first


def test_written_equals_read(tiny_base: Path, tmp_path: Path) -> None:
    source = FolderCheckpoint(tiny_base)
    write_checkpoint(source, tmp_path / "out", shard_bytes=4000)
    written = FolderCheckpoint(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    assert written.tensors == source.tensors
    assert all(source.read(name).equal(written.read(name)) for name in source.tensors)
    reference = {}
    for file in (tmp_path / "out").glob("*.safetensors"):
        reference |= load_file(file)
    assert all(source.read(name).equal(reference[name]) for name in source.tensors)


def test_nothing_is_overwritten(tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(CheckpointError, match="exists already"):
        write_checkpoint(FolderCheckpoint(tiny_base), tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "x"


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_nothing(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    source = FolderCheckpoint(tiny_base)
    real, count = source.read, 0

    def read(name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == 5:
            raise failure
        return real(name, dtype)

    monkeypatch.setattr(source, "read", read)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else CheckpointError
    with pytest.raises(expected):
        write_checkpoint(source, tmp_path / "place" / "out")
    assert not list((tmp_path / "place").iterdir())


def test_inputs_that_cannot_be_read_are_not_called_unwritable(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FolderCheckpoint(tiny_base)

    def read(name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(source, "read", read)
        with pytest.raises(CheckpointError, match=r"base: tensor .* cannot be read: Input/output"):
            write_checkpoint(source, tmp_path / "place" / "out")
    (tiny_base / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        write_checkpoint(source, tmp_path / "place" / "out")
    assert not list((tmp_path / "place").iterdir())


def test_live_model_equals_transformers(tiny_base: Path, tiny_children: list[Path]) -> None:
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([[0, 3, 5, 9, 12]])
    live = LiveModel.load(open_checkpoint(str(tiny_base)))
    for folder in (tiny_base, *tiny_children, tiny_base):
        live.swap(FolderCheckpoint(folder))
        reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        assert live.model(ids).logits.equal(reference(ids).logits)
        assert live.fingerprint == FolderCheckpoint(folder).fingerprint


def test_swapping_in_another_architecture_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    live = LiveModel.load(FolderCheckpoint(tiny_base))
    changes = {
        "missing": lambda t: t.pop("model.norm.weight"),
        "no place": lambda t: t.update(extra=torch.ones(2)),
        "shape": lambda t: t.update({"model.norm.weight": torch.ones(3)}),
    }
    for message, change in changes.items():
        tensors = tiny_tensors(0)
        change(tensors)
        folder = write_model(tmp_path / message.replace(" ", ""), tensors)
        with pytest.raises(IncompatibleModelsError, match=message):
            live.swap(FolderCheckpoint(folder))


def test_unknown_dtype_and_device(tiny_base: Path) -> None:
    with pytest.raises(MiscibleError, match="not a dtype"):
        LiveModel.load(FolderCheckpoint(tiny_base), dtype="int8")
    with pytest.raises(MiscibleError, match="no device"):
        LiveModel.load(FolderCheckpoint(tiny_base), device="abacus")


def test_other_vocabulary_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    from tiny import WORDS

    swapped = write_model(tmp_path / "swapped", tiny_tensors(1), words=WORDS[::-1])
    with pytest.raises(IncompatibleModelsError, match="the token '.*' has id"):
        check_same_vocabulary([FolderCheckpoint(tiny_base), FolderCheckpoint(swapped)])


def test_extents_are_the_bytes(tiny_base: Path) -> None:
    shard(tiny_base)
    model = FolderCheckpoint(tiny_base)
    for name in model.tensors:
        path, extent = model.extent(name)
        data = path.read_bytes()[extent.offset : extent.offset + extent.info.nbytes]
        held = torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(extent.info.shape)
        assert held.equal(model.read(name))
    with pytest.raises(CheckpointError, match="no tensor"):
        model.extent("absent")
    assert MemoryCheckpoint("m", {"a": torch.ones(2)}).extent("a") is None


@pytest.mark.parametrize(
    "name",
    ["diffusion_pytorch_model.safetensors", "sd_xl_base_1.0.safetensors", "model.fp16.safetensors"],
)
def test_the_only_file_of_a_folder_is_the_model(tiny_base: Path, name: str) -> None:
    expected = FolderCheckpoint(tiny_base).tensors
    (tiny_base / "model.safetensors").rename(tiny_base / name)
    assert FolderCheckpoint(tiny_base).tensors == expected


def test_shards_of_diffusers(tiny_base: Path) -> None:
    expected = FolderCheckpoint(tiny_base).tensors
    shard(tiny_base)
    (tiny_base / "model.safetensors.index.json").rename(
        tiny_base / "diffusion_pytorch_model.safetensors.index.json"
    )
    assert FolderCheckpoint(tiny_base).tensors == expected


def test_files_that_are_not_one_model(tiny_base: Path) -> None:
    weights = (tiny_base / "model.safetensors").rename(tiny_base / "a.safetensors")
    (tiny_base / "b.safetensors").write_bytes(weights.read_bytes())
    with pytest.raises(
        CheckpointError, match=r"2 files of weights.*Name one of them.*a\.safetensors"
    ):
        FolderCheckpoint(tiny_base)
    (tiny_base / "b.safetensors").unlink()
    weights.rename(tiny_base / "model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="not complete"):
        FolderCheckpoint(tiny_base)
    (tiny_base / "model-00001-of-00002.safetensors").rename(tiny_base / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"no weights.*BASE\+base"):
        FolderCheckpoint(tiny_base)


def test_a_pipeline_has_parts(tiny_base: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no weights.*Name one part.*/base"):
        FolderCheckpoint(tiny_base.parent)


def test_a_file_is_a_model(tiny_base: Path, tmp_path: Path) -> None:
    model = FileCheckpoint(tiny_base / "model.safetensors")
    assert (model.name, model.folder) == ("model", tiny_base)
    assert model.config == FolderCheckpoint(tiny_base).config
    assert model.fingerprint == FolderCheckpoint(tiny_base).fingerprint
    bare = tmp_path / "bare.v1.safetensors"
    save_file({"conv_in.weight": torch.ones(2, 2)}, bare)
    model = FileCheckpoint(bare)
    assert (model.name, model.config) == ("bare.v1", {})
    assert model.read("conv_in.weight").equal(torch.ones(2, 2))
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        FileCheckpoint(tmp_path / "absent.safetensors")


def test_files_that_change_under_us(tiny_base: Path, tmp_path: Path) -> None:
    weights = tiny_base / "model.safetensors"
    data = weights.read_bytes()
    model = FolderCheckpoint(tiny_base)
    unchanged(model)
    stat = weights.stat()
    weights.write_bytes(data[:-1] + b"\0")  # in place, and dated back
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: the file has changed"):
        unchanged(model)
    model = FileCheckpoint(weights)
    (tiny_base / "fresh").write_bytes(data)
    (tiny_base / "fresh").replace(weights)
    with pytest.raises(CheckpointError, match="has changed"):
        unchanged(model)
    model = FileCheckpoint(weights)
    weights.unlink()
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        unchanged(model)
    unchanged(MemoryCheckpoint("m", {}))
