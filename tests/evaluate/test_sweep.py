"""Tasks are loaded once, weights change under them, and nothing leaks from model to model."""

from __future__ import annotations

import gc
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from miscible.evaluate import EvaluationOptions, evaluators
from miscible.evaluate.harness import LmEvalHarness
from miscible.models import LiveModel, open_checkpoint


@pytest.fixture
def other_folder(stories_folder: Path, tmp_path: Path) -> Path:
    """The same model with noise on its weights."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "other"
    folder.mkdir()
    for file in stories_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(3)
    noisy = {
        name: tensor + 0.1 * tensor.std() * torch.randn(tensor.shape, generator=generator)
        if tensor.numel() > 1000
        else tensor
        for name, tensor in tensors.items()
    }
    save_file(noisy, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def options(shared_data: Path, own_tasks: Path) -> EvaluationOptions:
    behaviour = shared_data / "behaviour"
    return EvaluationOptions(
        tasks=("own_choice", "own_stories", "gsm8k_solution_bpb"),
        data={"gsm8k_solution_bpb": str(behaviour / "gsm8k")},
        include=(str(own_tasks),),
        num_fewshot=1,  # examples are drawn at random: the draw must not go on from model to model
        limit=8,
        resamples=50,
    )


def test_each_model_gets_its_own_scores(
    stories_folder: Path, other_folder: Path, options: EvaluationOptions
) -> None:
    first, second = open_checkpoint(str(stories_folder)), open_checkpoint(str(other_folder))
    live = LiveModel.load(first)
    harness = evaluators.get("lm_eval")(options)
    swept = [harness.evaluate(live)]
    for checkpoint in (second, first):
        live.swap(checkpoint)
        swept.append(harness.evaluate(live))
    alone = [
        evaluators.get("lm_eval")(options).evaluate(LiveModel.load(checkpoint))
        for checkpoint in (first, second, first)
    ]
    assert swept == alone
    estimates = [[row.estimate for row in each.scores] for each in swept]
    assert estimates[0] != estimates[1]


def test_tasks_are_loaded_once(stories: LiveModel, options: EvaluationOptions) -> None:
    harness = LmEvalHarness(options)
    tasks = harness.tasks
    harness.evaluate(stories)
    assert harness.tasks is tasks


def test_global_random_states_are_left_alone(
    stories: LiveModel, options: EvaluationOptions
) -> None:
    def states() -> tuple[object, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    LmEvalHarness(options).evaluate(stories)
    assert states() == before


def test_nothing_is_written_to_the_terminal(
    stories: LiveModel, options: EvaluationOptions, capfd: pytest.CaptureFixture[str]
) -> None:
    LmEvalHarness(options).evaluate(stories)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_progress_is_reported(stories: LiveModel, options: EvaluationOptions) -> None:
    from collections.abc import Iterator
    from contextlib import contextmanager

    from miscible.progress import Advance, shown_by

    seen: dict[str, list[float]] = {}

    @contextmanager
    def sink(description: str, total: float | None) -> Iterator[Advance]:
        seen[description] = [total or 0.0, 0.0]

        def advance(amount: float) -> None:
            seen[description][1] += amount

        yield advance

    with shown_by(sink):
        LmEvalHarness(options).evaluate(stories)
    total, done = seen["scoring tokens"]
    assert total == done > 0


def test_caches_of_data_files_go_with_the_harness(
    stories: LiveModel, options: EvaluationOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    harness = LmEvalHarness(options)
    harness.evaluate(stories)
    assert list(tmp_path.glob("miscible-*/datasets"))
    del harness
    gc.collect()
    assert not list(tmp_path.glob("miscible-*"))
