"""Names become tasks; what is wrong with them is said in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from miscible.errors import DatasetError, MiscibleError, UnknownNameError
from miscible.evaluate import Evaluation, EvaluationOptions
from miscible.evaluate.harness import LmEvalHarness

Run = Callable[..., Evaluation]
Own = Callable[..., dict[str, Any]]


def load(*tasks: str, **options: Any) -> dict[str, Any]:
    return LmEvalHarness(EvaluationOptions(tasks=tasks, **options)).tasks


QUESTION = {"question": "A?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}}


@pytest.fixture
def own(tmp_path: Path, own_tasks: Path) -> Callable[..., dict[str, Any]]:
    """Write a task with some keys changed, and its documents; return the options to find it."""
    config = yaml.safe_load((own_tasks / "own_choice.yaml").read_text())

    def write(*documents: dict[str, Any], **changes: Any) -> dict[str, Any]:
        (tmp_path / "own_choice.yaml").write_text(yaml.safe_dump({**config, **changes}))
        write_lines(tmp_path / "questions.jsonl", list(documents))
        return {"include": (str(tmp_path),)}

    return write


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_official_prompts_and_metrics_are_untouched(shared_data: Path) -> None:
    arc = shared_data / "behaviour" / "arc" / "ARC-Easy-test.jsonl.gz"
    task = load("arc_easy", data={"arc_easy": str(arc)})["tasks"]["arc_easy"]
    document = next(iter(task.test_docs()))
    assert task.doc_to_text(document) == f"Question: {document['question']}\nAnswer:"
    assert set(task.aggregation()) == {"acc", "acc_norm"}
    assert len(task.test_docs()) == 2376
    assert task.VERSION == 1.0


def test_few_shot_examples_come_from_their_own_split(shared_data: Path) -> None:
    gsm8k = shared_data / "behaviour" / "gsm8k"
    task = load("gsm8k", data={"gsm8k": str(gsm8k)})["tasks"]["gsm8k"]
    assert task.get_config("num_fewshot") == 5
    assert len(task.fewshot_docs()) == 7473
    with pytest.raises(DatasetError, match="5 few-shot examples"):
        load("gsm8k", data={"gsm8k": str(gsm8k / "test.jsonl.gz")})
    zero = load("gsm8k", data={"gsm8k": {"test": str(gsm8k / "test.jsonl.gz")}}, num_fewshot=0)
    assert zero["tasks"]["gsm8k"].get_config("num_fewshot") == 0


def test_one_zip_serves_all_paradigms(shared_data: Path) -> None:
    blimp = str(shared_data / "probing" / "blimp" / "BLiMP.zip")
    loaded = load("blimp", data={"blimp": blimp})
    assert len(loaded["tasks"]) == 67
    assert all(len(task.validation_docs()) == 1000 for task in loaded["tasks"].values())
    assert list(loaded["groups"]) == ["blimp"]


def test_nested_groups_and_tags_keep_their_shape(shared_data: Path) -> None:
    mmlu = str(shared_data / "behaviour" / "mmlu")
    loaded = load("mmlu", data={"mmlu": mmlu}, num_fewshot=2)
    assert len(loaded["tasks"]) == 57
    assert list(loaded["groups"]["mmlu"].child_names) == [
        "mmlu_stem", "mmlu_other", "mmlu_social_sciences", "mmlu_humanities",
    ]  # fmt: skip
    anatomy = loaded["tasks"]["mmlu_anatomy"]
    assert {document["subject"] for document in anatomy.test_docs()} == {"anatomy"}
    assert len(anatomy.fewshot_docs()) == 5


def test_data_of_a_task_overrides_that_of_its_group(shared_data: Path, tmp_path: Path) -> None:
    blimp = str(shared_data / "probing" / "blimp" / "BLiMP.zip")
    pair = {"sentence_good": "Cats sleep.", "sentence_bad": "Cats sleeps."}
    write_lines(tmp_path / "own.jsonl", [pair])
    data = {"blimp_causative": str(tmp_path / "own.jsonl"), "blimp": blimp}
    loaded = load("blimp_causative", "blimp_wh_island", data=data)
    sizes = {name: len(task.validation_docs()) for name, task in loaded["tasks"].items()}
    assert sizes == {"blimp_causative": 1, "blimp_wh_island": 1000}


def test_changed_data_are_never_served_stale(run: Run, own: Own) -> None:
    seen = []
    for key in ("A", "B"):
        found = run(tasks=("own_choice",), **own({**QUESTION, "answerKey": key}))
        seen.append(next(row.value for row in found.items if row.metric == "choice_logprob"))
    assert sum(2.718281828459045**value for value in seen) == pytest.approx(1)


def test_names_that_do_not_exist(own_tasks: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'arc_easy'"):
        load("arc_eazy")
    with pytest.raises(UnknownNameError, match="Did you mean 'own_choice'"):
        load("own_choise", include=(str(own_tasks),))
    with pytest.raises(UnknownNameError, match="'own_chioce'"):
        load("own_choice", include=(str(own_tasks),), data={"own_chioce": "x.jsonl"})


def test_folder_of_tasks_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: there is no such folder"):
        load("own_choice", include=(str(tmp_path / "nowhere"),))


@pytest.mark.parametrize("text", ["task: [own_choice\n", "- a\n- b\n", "include: gone.yaml\n"])
def test_malformed_yaml_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(DatasetError, match=r"bad\.yaml: it is not a task"):
        load("own_choice", include=(str(tmp_path),))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_kwargs": {"data_files": {"test": "gone.jsonl"}}}, "gone.jsonl"),
        ({"output_type": "mind_reading"}, "mind_reading"),
        ({"doc_to_text": "{{no_such_field}}"}, "no_such_field"),
        ({"no_such_key": 1}, "no_such_key"),
        ({"test_split": "tset"}, "tset"),
    ],
)
def test_defects_of_a_task_are_explained(own: Own, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load("own_choice", **own({**QUESTION, "answerKey": "A"}, **changes))


def test_empty_data_are_an_error(own: Own) -> None:
    with pytest.raises(DatasetError, match="own_choice"):
        load("own_choice", **own())


def test_document_that_does_not_fit_its_prompt(run: Run, own: Own) -> None:
    fine = {**QUESTION, "answerKey": "A"}
    options = own(fine, {**fine, "question": None}, doc_to_text="{{question.upper()}}")
    with pytest.raises(DatasetError, match="does not fit its prompt"):
        run(tasks=("own_choice",), **options)


def test_code_is_not_run_unasked(own: Own) -> None:
    options = own({**QUESTION, "answerKey": "A"}, unsafe_code=True)
    with pytest.raises(MiscibleError, match="allow_code"):
        load("own_choice", **options)
    assert load("own_choice", allow_code=True, **options)["tasks"]
