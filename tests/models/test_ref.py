"""References, with a small fake Hub on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fakehub import COMMIT, FakeHub, HubModel, fake_hub
from miscible.errors import MiscibleError, ModelReferenceError
from miscible.models import open_checkpoint
from miscible.models.adapters import AdaptedCheckpoint
from miscible.models.ref import is_hub_id, split_reference
from tiny import WIDTH, tiny_tensors, write_adapter, write_model


@pytest.fixture
def hub(tiny_base: Path) -> Iterator[FakeHub]:
    more = ({"rfilename": "evil.py"}, {"rfilename": "pytorch_model.bin"})
    with fake_hub(tiny=HubModel(tiny_base, more=more)) as hub:
        yield hub


def ask(endpoint: str, home: Path, reference: str, **env: str) -> subprocess.CompletedProcess[str]:
    # huggingface_hub reads its settings when it is imported, so each question is a new process.
    code = (
        "import sys\n"
        "from miscible.models.ref import resolve\n"
        "from miscible.models import open_checkpoint\n"
        "from miscible.errors import MiscibleError\n"
        "try:\n"
        f"    source = resolve({reference!r})\n"
        f"    print(source.commit, len(open_checkpoint({reference!r}).tensors))\n"
        "except MiscibleError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **env}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**clean, **settings},
        check=True, timeout=120,
    )  # fmt: skip


def test_hub_models_are_pinned_to_a_commit(hub: FakeHub, tmp_path: Path) -> None:
    endpoint = hub.url
    online = ask(endpoint, tmp_path / "hf", "acme/tiny@main")
    assert online.stdout.split() == [COMMIT, "20"], online.stderr
    resolved = [served.path for served in hub.served if "/resolve/" in served.path]
    assert resolved
    assert all(COMMIT in path for path in resolved), "files are asked for by commit"
    assert not any(path.endswith((".py", ".bin")) for path in resolved), "no code, no pickles"
    offline = ask(endpoint, tmp_path / "hf", f"acme/tiny@{COMMIT}", HF_HUB_OFFLINE="1")
    assert offline.stdout.split()[0] == COMMIT, offline.stdout
    missing = ask(endpoint, tmp_path / "hf2", "acme/tiny", HF_HUB_OFFLINE="1")
    assert "ModelReferenceError" in missing.stdout
    assert "HF_HUB_OFFLINE" in missing.stdout
    unknown = ask(endpoint, tmp_path / "hf", "acme/nothing")
    assert "ModelReferenceError" in unknown.stdout
    assert "HTTP 404" in unknown.stdout


@pytest.mark.parametrize(
    "reference", ["", "./nowhere", "/no/such/folder", "a/b/c", "no-slash", "../x", "acme/x@../../y"]
)
def test_references_that_name_nothing(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ModelReferenceError):
        open_checkpoint(reference)


def test_local_folders_win_and_never_ask_the_network(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_base.parent / "acme" / "tiny"
    folder.parent.mkdir()
    tiny_base.rename(folder)
    monkeypatch.chdir(folder.parent.parent)
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    assert len(open_checkpoint("acme/tiny").tensors) == 20
    assert not is_hub_id("acme/tiny")
    assert is_hub_id("acme/other")
    assert not is_hub_id("./acme/tiny")


def test_without_a_network_the_cache_answers(hub: FakeHub, tmp_path: Path) -> None:
    closed = "http://127.0.0.1:9"
    home = tmp_path / "hf"
    missing = ask(closed, home, "acme/tiny")
    assert missing.stdout.startswith("ModelReferenceError acme/tiny: the model is not in the local")
    assert not missing.stderr
    endpoint = hub.url
    ask(endpoint, home, "acme/tiny")
    for reference in ("acme/tiny", f"acme/tiny@{COMMIT}"):
        assert ask(closed, home, reference).stdout.split() == [COMMIT, "20"]
    hub.served.clear()
    ask(endpoint, home, f"acme/tiny@{COMMIT}")
    revision = "/api/models/acme/tiny/revision"
    assert not [served for served in hub.served if served.path.startswith(revision)]


def test_errors_of_the_transport_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadError(Exception):
        """Stands for those of httpx and its successors, which are no `OSError`."""

    def fail(*args: object, **kwargs: object) -> str:
        raise ReadError("connection lost")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ModelReferenceError, match=r"cannot be asked \(ReadError\)"):
        open_checkpoint("acme/tiny")


def test_a_plus_in_a_path(tmp_path: Path) -> None:
    base = write_model(tmp_path / "c++" / "m", tiny_tensors(0))
    module = "model.layers.0.self_attn.q_proj"
    factors = {module: (torch.ones(2, WIDTH), torch.ones(WIDTH, 2))}
    adapter = write_adapter(tmp_path / "a+b" / "lora", factors)
    assert len(open_checkpoint(str(base)).tensors) == 20
    both = open_checkpoint(f"{base}+{adapter}")
    assert isinstance(both, AdaptedCheckpoint)
    assert (both.base.folder, both.adapter.folder) == (base, adapter)
    assert open_checkpoint("m+../a+b/lora", relative_to=base.parent).fingerprint == both.fingerprint
    assert split_reference(f"acme/tiny@main+{adapter}") == ("acme/tiny@main", str(adapter))
    assert split_reference("acme/tiny+acme/lora") == ("acme/tiny", "acme/lora")
    with pytest.raises(ModelReferenceError, match=r"no folder '.*/nowhere'"):
        open_checkpoint(f"{base}+{tmp_path}/nowhere")


@pytest.mark.parametrize(
    "reference",
    ["x" * 5000, "a/" + "b" * 5000, "/" + "x/" * 2500, "~nouser/x", "acme/x+" + "y" * 5000, "\0"],
    ids=len,
)
def test_hostile_references(reference: str) -> None:
    with pytest.raises(MiscibleError) as caught:
        open_checkpoint(reference)
    assert len(str(caught.value)) < 600
