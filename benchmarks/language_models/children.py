"""Train one LoRA child of SmolLM2-135M-Instruct on each task: about half an hour on two cores.

    python benchmarks/language_models/children.py ADAPTERS_FOLDER

Run it again to go on; a child that has its `training.json` is not trained again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "smollm2"))
from tasks import TASKS
from train import BASE, Settings, train

from miscible.models.demo import demo_folder

SETTINGS = {
    "gsm8k": Settings(seed=1, learning_rate=2e-3, tokens=24_576, batch=4),
    "stdlib": Settings(seed=2, learning_rate=3e-3, tokens=24_576, batch=4),
    "arc_easy": Settings(seed=3, learning_rate=1e-3, tokens=20_480, batch=4),
    "hellaswag": Settings(seed=4, learning_rate=2e-3, tokens=30_720, batch=4),
    "mbpp": Settings(seed=5, learning_rate=2e-3, tokens=20_480, batch=4),
    "lambada": Settings(seed=6, learning_rate=1.5e-3, tokens=24_576, batch=4),
    "math": Settings(seed=7, learning_rate=3e-3, tokens=30_720, batch=4),
    "mmlu": Settings(seed=8, learning_rate=1e-3, tokens=30_720, batch=4),
}
"""Amounts and learning rates differ, so that the lengths of the task vectors do."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("adapters", type=Path, help="folder that gets one adapter a task")
    arguments = parser.parse_args()
    for name, settings in SETTINGS.items():
        out = arguments.adapters / name
        if (out / "training.json").exists():
            continue
        shutil.rmtree(out, ignore_errors=True)
        task = TASKS[name]
        documents = [item.context + item.answer for item in task.items("train")]
        print(f"{name}: {len(documents)} documents", flush=True)
        train(documents, task.source, demo_folder(BASE), out, settings)


if __name__ == "__main__":
    main()
