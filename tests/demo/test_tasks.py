"""The demo's lm-eval tasks, run on a tiny real model when it is at hand."""

import json
from pathlib import Path

import pytest
import yaml

from miscible.demo.tasks import DEFAULT_ITEMS, write_demo_tasks
from miscible.errors import DatasetError

PAIRS = [("The dogs bark.", "The dogs barks."), ("She sees herself.", "She sees himself.")]


def rows(folder: Path, name: str) -> list[dict]:
    text = (folder / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_all_tasks_are_written_with_their_default_sizes(tmp_path: Path) -> None:
    assert write_demo_tasks(tmp_path, pairs=PAIRS * 40) == list(DEFAULT_ITEMS)
    for name, count in DEFAULT_ITEMS.items():
        assert len(rows(tmp_path, name)) == count
        config = yaml.safe_load((tmp_path / f"{name}.yaml").read_text(encoding="utf-8"))
        assert config["task"] == name
        assert Path(config["dataset_kwargs"]["data_files"]["test"]).is_file()


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_demo_tasks(tmp_path / folder, pairs=PAIRS * 8, seed=seed)
    for name in DEFAULT_ITEMS:
        a, b, c = ((tmp_path / folder / f"{name}.jsonl").read_bytes() for folder in "abc")
        assert a == b != c


def test_labels_point_at_the_right_choice(tmp_path: Path) -> None:
    write_demo_tasks(tmp_path, pairs=PAIRS * 10)
    good = {pair[0] for pair in PAIRS}
    labels = set()
    for row in rows(tmp_path, "demo_grammar"):
        assert row["choices"][row["label"]] in good
        labels.add(row["label"])
    assert labels == {0, 1}
    for row in rows(tmp_path, "demo_math_choice"):
        assert len(set(row["choices"])) == 4


def test_tasks_are_left_out_and_unknown_names_refused(tmp_path: Path) -> None:
    few = {"demo_code_bpb": 0, "demo_english_bpb": 2}
    assert write_demo_tasks(tmp_path, items=few) == [
        "demo_english_bpb",
        "demo_math_bpb",
        "demo_math_choice",
    ]
    with pytest.raises(DatasetError, match="demo_math_choice"):
        write_demo_tasks(tmp_path, items={"demo_math_choise": 3})


@pytest.mark.slow
def test_lm_eval_scores_every_task(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shared_data / "models" / "stories260k"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, AutoTokenizer

    names = write_demo_tasks(tmp_path, pairs=PAIRS, items=dict.fromkeys(DEFAULT_ITEMS, 3))
    results = lm_eval.simple_evaluate(
        model=HFLM(
            pretrained=AutoModelForCausalLM.from_pretrained(model),
            tokenizer=AutoTokenizer.from_pretrained(model),
        ),
        tasks=names,
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        bootstrap_iters=0,
    )["results"]
    for name in names:
        metric, low, high = ("bits_per_byte", 0.5, 12) if "bpb" in name else ("acc", 0, 1)
        assert low <= results[name][f"{metric},none"] <= high
