"""The key of a task from a folder: all that it depends on, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from miscible.errors import DatasetError
from miscible.evaluate import EvaluationOptions, task_content

FILES = {
    "tasks/mine.yaml": "include: shared/_base.yaml\ntask: mine\ntag: every\n"
    "dataset_kwargs: {data_files: {test: ../data/test.jsonl}}\n",
    "tasks/shared/_base.yaml": "dataset_path: json\nprocess_docs: !function utils.keep\n",
    "tasks/shared/utils.py": "def keep(docs): return docs\n",
    "tasks/other.yaml": "task: other\ntag: every\n",
    "tasks/both.yaml": "group: both\ntask: [mine, {task: other, num_fewshot: 1}]\n",
    "tasks/free.yaml": "task: free\ncustom_dataset: !function free.load\n",
    "tasks/free.py": "def load(**_): return {}\n",
    "tasks/notes.txt": "notes",
    "tasks/arc.yaml": "task: arc_easy\ndataset_path: json\n",
    "data/test.jsonl": "{}\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "work"


def key(folder: Path, task: str) -> str:
    return EvaluationOptions(tasks=(task,), include=(str(folder / "tasks"),)).key()


USED = ["tasks/mine.yaml", "tasks/shared/_base.yaml", "tasks/shared/utils.py", "data/test.jsonl"]
USED_BESIDES: dict[str, list[str]] = {
    "mine": [], "both": ["tasks/other.yaml", "tasks/both.yaml"], "every": ["tasks/other.yaml"],
}  # fmt: skip


@pytest.mark.parametrize("task", USED_BESIDES)
def test_exactly_the_files_that_a_task_uses_change_its_key(folder: Path, task: str) -> None:
    changed = set()
    for number, (name, text) in enumerate(FILES.items()):
        before = key(folder, task)
        # A comment of YAML is no content, so something is added that is.
        more = f"description{number}: x\n" if name.endswith(".yaml") else "\n# more\n"
        (folder / name).write_text(text + more)
        if key(folder, task) != before:
            changed.add(name)
    assert changed == {*USED, *USED_BESIDES[task]}


def test_data_by_an_absolute_path_count_by_content(folder: Path, tmp_path: Path) -> None:
    def use(data: Path) -> str:
        text = FILES["tasks/mine.yaml"].replace("../data/test.jsonl", str(data))
        (folder / "tasks/mine.yaml").write_text(text)
        return key(folder, "mine")

    data = tmp_path / "elsewhere.jsonl"
    data.write_text("{}\n")
    before = use(data)
    assert before == use(folder / "data/test.jsonl")
    data.write_text('{"a": 1}\n')
    assert use(data) != before


@pytest.mark.parametrize("task", ["mine", "both", "free", "arc_easy"])
def test_moving_the_folder_changes_nothing(folder: Path, tmp_path: Path, task: str) -> None:
    before = key(folder, task)
    shutil.move(folder, tmp_path / "moved")
    assert key(tmp_path / "moved", task) == before


def test_a_task_that_may_read_anything_counts_the_whole_folder(folder: Path) -> None:
    before = key(folder, "free")
    (folder / "tasks/notes.txt").write_text("other notes")
    assert key(folder, "free") != before


def test_official_tasks_count_nothing_of_the_folder_but_what_it_redefines(folder: Path) -> None:
    assert key(folder, "gsm8k") == EvaluationOptions(tasks=("gsm8k",)).key()
    # ai2_arc is a tag of lm-eval's whose task arc_easy the folder defines anew.
    before = key(folder, "ai2_arc")
    (folder / "tasks/arc.yaml").write_text("task: arc_easy\ndataset_path: csv\n")
    assert key(folder, "ai2_arc") != before


def test_our_own_tasks_are_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def own() -> str:
        return EvaluationOptions(tasks=("text_bpb",)).key()

    before = own()
    copy = tmp_path / "tasks"
    shutil.copytree(task_content.OWN_TASKS, copy)
    monkeypatch.setattr(task_content, "OWN_TASKS", copy)
    assert own() == before
    path = copy / "text_bpb.yaml"
    path.write_text(path.read_text().replace("{{text}}", "{{text}}."))
    assert own() != before


@pytest.mark.parametrize(
    "text", ["task: [", "- a", "task: mine\ninclude: mine.yaml", "task: mine\ninclude: gone.yaml"]
)
def test_malformed_yaml_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(DatasetError, match="it is not a task"):
        EvaluationOptions(tasks=("mine",), include=(str(tmp_path),)).key()


def test_a_changed_key_is_a_changed_evaluation(folder: Path, run: Callable[..., object]) -> None:
    """What the key follows is the file that the evaluation reads."""
    include = (str(folder / "tasks"),)
    text = FILES["tasks/mine.yaml"] + (
        "output_type: loglikelihood_rolling\ntest_split: test\ndoc_to_text: ''\n"
        "doc_to_target: '{{text}}'\nmetric_list: [{metric: bits_per_byte}]\n"
    )
    (folder / "tasks/mine.yaml").write_text(text)
    seen = []
    for story in ("Once upon a time", "A cat sat"):
        (folder / "data/test.jsonl").write_text(f'{{"text": "{story}"}}\n')
        seen.append((key(folder, "mine"), repr(run(tasks=("mine",), include=include))))
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] != seen[1][1]
