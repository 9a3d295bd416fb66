"""The same numbers as lm-eval's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from miscible.evaluate import Evaluation
from miscible.evaluate.model import LikelihoodLM
from miscible.evaluate.surroundings import quiet
from miscible.models import LiveModel

Run = Callable[..., Evaluation]


def scores(found: Evaluation) -> dict[tuple[str, str], float]:
    return {(row.dataset, row.metric): row.estimate for row in found.scores}


@pytest.fixture(scope="module")
def original(stories: LiveModel, own_tasks: Path) -> dict[str, Any]:
    """lm-eval in process, with its own model, on the user's own tasks."""
    lm = HFLM(pretrained=stories.model, tokenizer=stories.tokenizer, batch_size=1)
    with quiet(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(own_tasks)
        manager = TaskManager(include_path=str(own_tasks), include_defaults=False)
        found = simple_evaluate(
            lm,
            tasks=["own_choice", "own_stories", "own_answer"],
            task_manager=manager,
            bootstrap_iters=0,
            num_fewshot=None,
        )
    assert found is not None
    return dict(found)


@pytest.mark.parametrize("batch_tokens", [1, 300, 4096])
def test_scores_equal_lm_eval_in_process(
    run: Run, own_tasks: Path, original: dict[str, Any], batch_tokens: int
) -> None:
    names = ("own_choice", "own_stories", "own_answer")
    found = scores(run(tasks=names, include=(str(own_tasks),), batch_tokens=batch_tokens))
    for metric in ("acc", "acc_norm"):
        assert found["own_choice", metric] == original["results"]["own_choice"][f"{metric},none"]
    for metric in ("bits_per_byte", "byte_perplexity"):
        expected = original["results"]["own_stories"][f"{metric},none"]
        assert found["own_stories", metric] == pytest.approx(expected, rel=1e-5)
    expected = original["results"]["own_answer"]["exact_match,none"]
    assert found["own_answer", "exact_match"] == expected


def test_every_log_probability_and_text_equals_lm_eval(
    stories: LiveModel, own_tasks: Path, original: dict[str, Any]
) -> None:
    from lm_eval.api.instance import Instance

    lm = LikelihoodLM(stories)
    with quiet():
        for name, kind in (
            ("own_choice", "loglikelihood"),
            ("own_stories", "loglikelihood_rolling"),
            ("own_answer", "generate_until"),
        ):
            samples = original["samples"][name]
            arguments = [a for s in samples for a in s["arguments"]]
            expected = [r[0] for s in samples for r in s["resps"]]
            found = getattr(lm, kind)(
                [Instance(kind, {}, a, 0, metadata=(name, 0, 1)) for a in arguments]
            )
            for mine, theirs in zip(found, expected, strict=True):
                if kind == "generate_until":
                    assert mine == theirs
                elif kind == "loglikelihood":
                    assert mine[0] == pytest.approx(theirs[0], abs=1e-4)
                    assert mine[1] == theirs[1]
                else:
                    assert mine == pytest.approx(theirs, abs=1e-4, rel=1e-6)


@pytest.mark.slow
def test_official_task_on_local_data_equals_the_command_line(
    run: Run, shared_data: Path, stories_folder: Path, own_tasks: Path, tmp_path: Path
) -> None:
    blimp = shared_data / "probing" / "blimp" / "BLiMP.zip"
    _mimic_hub(blimp, tmp_path, "wh_island")
    for file in own_tasks.glob("*.jsonl"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    command = [
        sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args",
        f"pretrained={stories_folder},dtype=float32", "--device", "cpu", "--batch_size", "16",
        "--tasks", "blimp_wh_island,own_stories", "--include_path", str(own_tasks),
        "--limit", "100", "--log_samples", "--output_path", str(tmp_path / "out"),
    ]  # fmt: skip
    cache = {"HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **cache, **offline}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    (file,) = (tmp_path / "out").rglob("results_*.json")
    theirs = json.loads(file.read_text())["results"]

    mine = run(
        tasks=("blimp_wh_island", "own_stories"),
        data={"blimp": str(blimp)},
        include=(str(own_tasks),),
        limit=100,
    )
    found = scores(mine)
    assert found["blimp_wh_island", "acc"] == theirs["blimp_wh_island"]["acc,none"]
    expected = theirs["own_stories"]["bits_per_byte,none"]
    assert found["own_stories", "bits_per_byte"] == pytest.approx(expected, rel=1e-5)

    (file,) = (tmp_path / "out").rglob("samples_blimp_wh_island_*.jsonl")
    samples = sorted(map(json.loads, file.read_text().splitlines()), key=lambda s: s["doc_id"])
    rows = [row for row in mine.items if row.dataset == "blimp_wh_island"]
    for sample, acc in zip(samples, [r for r in rows if r.metric == "acc"], strict=True):
        assert (acc.item, acc.value) == (str(sample["doc_id"]), sample["acc"])
    answers = [row for row in rows if row.metric == "answer_bits_per_byte"]
    for sample, row in zip(samples, answers, strict=True):
        bits = -float(sample["resps"][0][0][0]) / 0.6931471805599453
        assert row.value * row.weight == pytest.approx(bits, abs=2e-4)


def _mimic_hub(blimp: Path, folder: Path, paradigm: str) -> None:
    """Lay BLiMP out as on the Hub, so that lm-eval finds it under its own name."""
    data = folder / "nyu-mll" / "blimp"
    data.mkdir(parents=True)
    with zipfile.ZipFile(blimp) as archive:
        (data / f"{paradigm}.jsonl").write_bytes(archive.read(f"data/{paradigm}.jsonl"))
    (data / "README.md").write_text(
        "---\nconfigs:\n"
        f"- config_name: {paradigm}\n  data_files:\n"
        f"  - split: train\n    path: {paradigm}.jsonl\n---\n"
    )
