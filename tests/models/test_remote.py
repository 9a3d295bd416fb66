"""Headers of models that are not here, from a small fake Hub on loopback."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, snapshot_download

from fakehub import FakeHub, HubModel, fake_hub, talk_to, write_header_only
from miscible.errors import CheckpointError, MiscibleError, ModelReferenceError
from miscible.models.checkpoint import FolderCheckpoint
from miscible.models.remote import RefusedError, hollow, hollow_snapshot, look_up, transport
from miscible.models.remote.transport import may_redirect, read_head
from tiny import tiny_tensors, write_model


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with the tiny model ``acme/tiny``; an empty cache; a token."""
    folder = write_model(tmp_path / "tiny", tiny_tensors(0))
    with fake_hub(tiny=HubModel(folder)) as hub:
        talk_to(hub.url, tmp_path / "hf", monkeypatch)
        monkeypatch.setattr(transport, "_PAUSE", 0.0)
        monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
        yield hub


def fetched(reference: str, scratch: Path) -> Path:
    scratch.mkdir(exist_ok=True)
    return hollow_snapshot(look_up(reference), scratch)


def large_model(folder: Path) -> list[int]:
    """Write three shards of 1 GB each, all holes, and their index; return header lengths."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    lengths, index = [], {}
    for shard in range(3):
        name = f"model-0000{shard + 1}-of-00003.safetensors"
        tensors = {f"model.layers.{shard}.w{i}": ("BF16", [16384, 1024]) for i in range(32)}
        lengths.append(write_header_only(folder / name, tensors))
        index |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return lengths


def test_not_one_byte_of_a_tensor_is_asked_for(hub: FakeHub, tmp_path: Path) -> None:
    lengths = large_model(tmp_path / "large")
    hub.models["acme/large"] = HubModel(tmp_path / "large")
    folder = fetched("acme/large@main", tmp_path / "scratch")
    checkpoint = FolderCheckpoint(folder)
    assert len(checkpoint.tensors) == 96
    assert sum(info.nbytes for info in checkpoint.tensors.values()) == 96 * 2**25
    asked = hub.of(".safetensors")
    spans = sorted((served.range or "") for served in asked)
    assert spans == sorted(["bytes=0-7"] * 3 + [f"bytes=8-{length - 1}" for length in lengths])
    assert hub.sent(".safetensors") == sum(lengths)
    assert hub.sent() < 50_000
    used = sum(path.stat().st_blocks * 512 for path in (tmp_path / "scratch").rglob("*"))
    assert used < 200_000, "holes take no space"
    assert look_up("acme/large").download_bytes > 3 * 2**30


def test_a_hollow_snapshot_is_known_by_the_hubs_hashes(hub: FakeHub, tmp_path: Path) -> None:
    real = FolderCheckpoint(hub.models["acme/tiny"].folder)
    held = FolderCheckpoint(fetched("acme/tiny", tmp_path / "scratch"))
    assert held.tensors == real.tensors
    assert held.config == real.config
    assert held.fingerprint == real.fingerprint
    before = len(hub.served)
    fetched("acme/tiny@main", tmp_path / "scratch")
    assert len(hub.served) == before + 1, "what is there is not fetched again"


def test_a_hundred_thousand_tensors(hub: FakeHub, tmp_path: Path) -> None:
    names = (f"model.layers.{i // 2000}.mlp.experts.{i % 2000}.up.weight" for i in range(100_000))
    folder = tmp_path / "moe"
    folder.mkdir()
    length = write_header_only(folder / "model.safetensors", {n: ("BF16", [4, 8]) for n in names})
    assert length > 10**7
    hub.models["acme/moe"] = HubModel(folder)
    snapshot = fetched("acme/moe", tmp_path / "scratch")
    calls = Counter[str]()
    sys.setprofile(lambda frame, event, argument: calls.update([event]))
    try:
        checkpoint = FolderCheckpoint(snapshot)
    finally:
        sys.setprofile(None)
    assert sum(calls.values()) < 40 * 100_000, "work grows with the tensors, not with their square"
    assert len(checkpoint.tensors) == 100_000
    assert hub.sent(".safetensors") == length


def test_a_server_without_ranges_is_hung_up_on(hub: FakeHub, tmp_path: Path) -> None:
    large_model(tmp_path / "large")
    hub.models["acme/large"] = HubModel(tmp_path / "large")
    hub.ignores_ranges = True
    folder = fetched("acme/large", tmp_path / "scratch")
    assert len(FolderCheckpoint(folder).tensors) == 96
    for served in hub.of(".safetensors"):
        assert served.sent < 2**25, "what is in flight, of a gigabyte"


def test_only_files_that_models_need_are_asked_for(hub: FakeHub, tmp_path: Path) -> None:
    folder = hub.models["acme/tiny"].folder
    for name in ("evil.py", "pytorch_model.bin", "notes.txt"):
        (folder / name).write_text("x")
    hub.models["acme/tiny"].more = (
        {"rfilename": "../../out.json", "size": 1}, {"rfilename": "/etc/passwd"},
        {"rfilename": "a/../../b.safetensors"}, {"rfilename": 7}, "x",
    )  # fmt: skip
    fetched("acme/tiny", tmp_path / "scratch")
    asked = {served.path.rpartition("/")[2] for served in hub.served if "resolve" in served.path}
    assert asked == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert all(name[0] not in "./" for name in look_up("acme/tiny").files)


def test_files_in_the_cache_are_not_asked_for(hub: FakeHub, tmp_path: Path) -> None:
    snapshot_download("acme/tiny", endpoint=hub.url, cache_dir=constants.HF_HUB_CACHE)
    hub.served.clear()
    repository = look_up("acme/tiny")
    folder = hollow_snapshot(repository, tmp_path)
    assert [served.path for served in hub.served] == ["/api/models/acme/tiny"]
    assert repository.download_bytes == 0
    assert FolderCheckpoint(folder).read("model.norm.weight").shape == (16,)


@pytest.mark.parametrize(
    ("reference", "status", "code"),
    [("acme/nothing", 404, "RepoNotFound"), ("acme/tiny@v9", 404, "RevisionNotFound")],
)
def test_missing_models(hub: FakeHub, reference: str, status: int, code: str) -> None:
    with pytest.raises(RefusedError) as caught:
        look_up(reference)
    assert (caught.value.status, caught.value.code) == (status, code)


def test_gated_models(hub: FakeHub, tmp_path: Path) -> None:
    hub.models["acme/tiny"].gated = True
    assert look_up("acme/tiny").gated
    hub.models["acme/tiny"].refused = (403, "GatedRepo")
    with pytest.raises(RefusedError) as caught:
        fetched("acme/tiny", tmp_path)
    assert caught.value.code == "GatedRepo"


def raw_file(head: bytes, total: int | None = None, **changed: Any) -> Callable[[Any], None]:
    """Answer ranges out of *head* as a file of *total* bytes; *changed* are lies of the reply."""

    def answer(handler: Any) -> None:
        first, last = (int(n) for n in handler.headers["Range"].removeprefix("bytes=").split("-"))
        body = changed.get("body", head[first : last + 1])
        span = changed.get("span", f"bytes {first}-{last}/{total or len(head)}")
        handler.reply(body, "application/octet-stream", status=changed.get("status", 206),
                      Content_Range=span, **changed.get("headers", {}))  # fmt: skip

    return answer


def head_of(text: bytes, length: int | None = None) -> bytes:
    return (len(text) if length is None else length).to_bytes(8, "little") + text


GOOD = head_of(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}') + b"1234"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (raw_file(head_of(b"{}", 10**12), 10**13), "claims a header of 1000000000000 bytes"),
        (raw_file(head_of(b"{}", 2**64 - 1), 10**13), "claims a header of"),
        (raw_file(head_of(b"{}", 500), 100), "claims a header of 500 bytes in a file of 100"),
        (raw_file(GOOD, span="bytes 0-99/1000"), "another part"),
        (raw_file(GOOD, span="bytes 5-12/1000"), "another part"),
        (raw_file(GOOD, span="bytes 0-7/*"), "unknown way"),
        (raw_file(GOOD, span="seven"), "unknown way"),
        (raw_file(GOOD, body=b"12345678x"), "more than the part"),
        (raw_file(GOOD, body=b"123"), "less than the part"),
        (raw_file(GOOD, headers={"Content-Encoding": "gzip"}), "unknown way"),
        (raw_file(b"abcd", body=b"abcd", span="bytes 0-3/4"), "too short"),
        (raw_file(b"", body=b"", status=416), "too short"),
        (raw_file(b"<html>login</html>", 18, body=b"<html>lo"), "claims a header of"),
        (raw_file(b"", body=b"<html>login</html>", status=200), "claims a header"),
        (raw_file(b"", body=head_of(b"{", 9), status=200), "claims a header of 9 bytes"),
        (raw_file(b"", body=b"abc", status=200), "too short"),
    ],
)  # fmt: skip
def test_headers_that_lie(hub: FakeHub, answer: Callable[[Any], None], message: str) -> None:
    hub.answers["/x"] = answer
    with pytest.raises(CheckpointError, match=message) as caught:
        read_head(f"{hub.url}/x", "acme/x: x")
    assert "acme/x" in str(caught.value)
    assert len(hub.served) == 1, "a lie ends the conversation"


def test_headers_that_are_honest(hub: FakeHub) -> None:
    hub.answers["/x"] = raw_file(GOOD)
    assert read_head(f"{hub.url}/x", "x") == (transport.Head(GOOD[:-4], len(GOOD)))
    hub.answers["/x"] = raw_file(GOOD, body=GOOD, status=200)
    assert read_head(f"{hub.url}/x", "x").content == GOOD[:-4]
    hub.answers["/x"] = raw_file(head_of(b"") + b"rest")
    assert read_head(f"{hub.url}/x", "x").content == head_of(b"")


def test_a_header_that_is_damaged_is_an_error_of_the_file(hub: FakeHub, tmp_path: Path) -> None:
    folder = hub.models["acme/tiny"].folder
    (folder / "model.safetensors").write_bytes(head_of(b"not json at all"))
    with pytest.raises(CheckpointError, match="not JSON"):
        FolderCheckpoint(fetched("acme/tiny", tmp_path / "scratch"))


def test_sizes_must_agree_with_the_listing(hub: FakeHub, tmp_path: Path) -> None:
    path = "/acme/tiny/resolve/0123456789abcdef0123456789abcdef01234567/model.safetensors"
    hub.answers[path] = raw_file(GOOD)
    with pytest.raises(CheckpointError, match=r"the Hub lists \d+ bytes, and the file has 73"):
        fetched("acme/tiny", tmp_path / "scratch")


def test_answers_without_end_are_cut_off(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hollow, "MAX_SMALL_BYTES", 100_000)
    path = "/acme/tiny/resolve/0123456789abcdef0123456789abcdef01234567/config.json"
    hub.answers[path] = lambda handler: handler.reply(b" " * 5_000_000, "application/json")
    with pytest.raises(CheckpointError, match="too large"):
        fetched("acme/tiny", tmp_path / "scratch")
    (hub.models["acme/tiny"].folder / "config.json").write_text(" " * 200_000)
    hub.served.clear()
    with pytest.raises(CheckpointError, match="too large"):
        fetched("acme/tiny", tmp_path / "scratch")
    assert not hub.of("/config.json"), "the listing says so already"


@pytest.mark.parametrize(
    "content",
    [b"<html>Please log in</html>", b"[1]", b'{"sha": "x", "siblings": []}', b"[" * 100_000,
     b'{"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": 3}'],
    ids=range(5),
)  # fmt: skip
def test_what_is_not_the_hub(hub: FakeHub, content: bytes) -> None:
    hub.answers["/api/models/acme/tiny"] = lambda handler: handler.reply(content, "text/html")
    with pytest.raises(ModelReferenceError, match="not the Hub's"):
        look_up("acme/tiny")


def redirect(target: str) -> Callable[[Any], None]:
    return lambda handler: handler.reply(b"", "text/plain", status=302, Location=target)


def test_the_token_goes_to_the_hub_alone(
    hub: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = "/acme/tiny/resolve/0123456789abcdef0123456789abcdef01234567/model.safetensors"
    with fake_hub() as elsewhere:
        content = (hub.models["acme/tiny"].folder / "model.safetensors").read_bytes()
        elsewhere.answers["/blob"] = raw_file(content)
        hub.answers[path] = redirect(f"{elsewhere.url}/blob")
        FolderCheckpoint(fetched("acme/tiny", tmp_path / "scratch"))
        assert len(elsewhere.served) == 2
        assert {served.authorization for served in elsewhere.served} == {None}
    assert {served.authorization for served in hub.served} == {"Bearer hf_secretsecret"}
    assert "hf_secretsecret" not in caplog.text
    with pytest.raises(MiscibleError) as caught:
        look_up("acme/nothing")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.com/x", "http://user@example.com/", "http://["]
)
def test_redirects_that_are_not_followed(hub: FakeHub, target: str) -> None:
    hub.answers["/x"] = redirect(target)
    with pytest.raises(CheckpointError, match="not allowed"):
        read_head(f"{hub.url}/x", "x")


def test_redirects_end(hub: FakeHub) -> None:
    hub.answers["/x"] = redirect("/x")
    with pytest.raises(CheckpointError, match="redirects more than"):
        read_head(f"{hub.url}/x", "x")
    assert len(hub.served) == transport.MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("origin", "target", "allowed"),
    [
        ("https://huggingface.co/a", "https://cdn-lfs.hf.co/b", True),
        ("https://huggingface.co/a", "http://cdn-lfs.hf.co/b", False),
        ("http://mirror.example/a", "https://cdn.example/b", True),
        ("https://huggingface.co/a", "https://127.0.0.1/b", False),
        ("https://huggingface.co/a", "https://169.254.169.254/latest", False),
        ("https://huggingface.co/a", "https://[::1]/b", False),
        ("https://huggingface.co/a", "https://localhost/b", False),
        ("https://huggingface.co/a", "https://0x7f000001/b", False),
        ("https://huggingface.co/a", "https://127.1/b", False),
        ("http://10.0.0.4/a", "http://10.0.0.5/b", True),
    ],
)
def test_where_redirects_may_lead(origin: str, target: str, allowed: bool) -> None:
    assert may_redirect(origin, target) is allowed


def test_a_busy_hub_is_asked_again(hub: FakeHub) -> None:
    statuses = [503, 429]

    def answer(handler: Any) -> None:
        if statuses:
            handler.refuse(statuses.pop(), "")
        else:
            del hub.answers["/api/models/acme/tiny"]
            handler.answer(body=True)

    hub.answers["/api/models/acme/tiny"] = answer
    assert look_up("acme/tiny").hub_id == "acme/tiny"
    hub.answers["/api/models/acme/tiny"] = lambda handler: handler.refuse(503, "")
    with pytest.raises(ModelReferenceError, match="busy"):
        look_up("acme/tiny")


def test_no_hub_at_all(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelReferenceError, match=r"cannot be asked \(ConnectError\)"):
        look_up("acme/tiny")
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelReferenceError, match="HF_HUB_OFFLINE"):
        look_up("acme/tiny")
    assert not hub.served
