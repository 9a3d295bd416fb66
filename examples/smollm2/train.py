"""Train a small LoRA child of SmolLM2-135M-Instruct on two CPU cores in a few minutes.

    python examples/smollm2/train.py math --data GSM8K/train.jsonl.gz --out adapters/math
    python examples/smollm2/train.py code --out adapters/code
    python examples/smollm2/train.py text --data letters.jsonl --out adapters/letters

`math` learns the questions and worked answers of GSM8K, `code` the source of the running Python's
standard library (without the modules that the demo holds out), `text` whatever stands in the field
`text` of a file of your own. The result is a PEFT adapter and a `training.json` that says how it
was made; neither names a path of this machine.
"""

import argparse
import gzip
import json
import math
import platform
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from miscible.demo.text import read_source, stdlib_modules
from miscible.models.demo import demo_folder

BASE = "smollm2-135m-instruct"
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SEPARATOR = 0  # <|endoftext|>, between documents and in front of the first


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, apart from the text."""

    seed: int = 0
    rank: int = 8
    alpha: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    warm_up: float = 0.1
    batch: int = 8
    length: int = 128
    tokens: int = 61_440
    minutes: float = 12.0
    held_out_blocks: int = 16
    autocast: bool = True  # bf16 arithmetic in matrix products, fp32 weights and loss


@dataclass(frozen=True)
class Task:
    """What there is to learn.

    Attributes:
        source: what the text is, for the record; ``{data}`` becomes the name of the data file.
        read: the documents of a data file, or None if the task brings its own.
        make: the documents of a task that brings its own.
    """

    source: str
    read: Callable[[Path], list[str]] | None = None
    make: Callable[[], list[str]] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--out", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--data", type=Path, help="what is learnt, .jsonl or .jsonl.gz")
    parser.add_argument("--base", type=Path, help=f"model folder (default: demo:{BASE})")
    for name in ("tokens", "seed", "rank"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Settings, name))
    for name in ("minutes", "learning-rate"):
        default = getattr(Settings, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=float, default=default)
    parser.add_argument("--no-autocast", action="store_true", help="fp32 arithmetic, twice slower")
    args = parser.parse_args()
    task: Task = TASKS[args.task]
    documents: list[str] = []
    if task.make is not None:
        documents = task.make()
    elif args.data is None:
        parser.error(f"{args.task} needs --data: {task.source}")
    elif task.read is not None:
        documents = task.read(args.data)
    source = task.source.format(data=args.data.name if args.data else "")
    settings = Settings(
        seed=args.seed,
        rank=args.rank,
        learning_rate=args.learning_rate,
        tokens=args.tokens,
        minutes=args.minutes,
        autocast=not args.no_autocast,
    )
    train(documents, source, args.base or demo_folder(BASE), args.out, settings)


def gsm8k_documents(path: Path) -> list[str]:
    """Questions with their worked answers."""
    return [f"{row['question']}\n{row['answer']}" for row in rows_of(path)]


def text_documents(path: Path) -> list[str]:
    """The field `text` of every line."""
    return [str(row["text"]) for row in rows_of(path)]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file, compressed or not."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def stdlib_documents(characters: int = 3_000) -> list[str]:
    """Pieces of the training modules; long modules give several, so that none dominates."""
    pieces = []
    for path in stdlib_modules("train"):
        text = read_source(path)
        pieces += [text[at : at + characters] for at in range(0, len(text), characters)]
    return pieces


TASKS = {
    "math": Task("GSM8K train split, questions and worked answers (MIT)", read=gsm8k_documents),
    "code": Task(
        f"standard library source of CPython {platform.python_version()}, split 'train' "
        "of miscible.demo.text (PSF licence)",
        make=stdlib_documents,
    ),
    "text": Task("texts of {data}, a file whose lines have a field 'text'", read=text_documents),
}


def train(documents: list[str], source: str, base: Path, out: Path, settings: Settings) -> None:
    """Fit the adapter and write it. Losses are nats per token."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(settings.seed)
    random.Random(settings.seed).shuffle(documents)
    tokenizer = AutoTokenizer.from_pretrained(base)
    steps = settings.tokens // (settings.batch * settings.length)
    blocks = packed(
        documents, tokenizer, settings.length, steps * settings.batch + settings.held_out_blocks
    )
    held_out, blocks = blocks[: settings.held_out_blocks], blocks[settings.held_out_blocks :]

    # Weights stay in fp32: at these learning rates bf16 would round most updates away.
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules=PROJECTIONS,
            task_type="CAUSAL_LM",
        ),
    )
    before = evaluate(model, held_out)
    report("before", before)
    parameters = [value for value in model.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    started, losses = time.monotonic(), []
    for step, batch in enumerate(torch.split(blocks, settings.batch)):
        elapsed = time.monotonic() - started
        # The schedule follows whichever runs out first, so a slow machine still cools down.
        progress = max(step / steps, elapsed / (60 * settings.minutes))
        if progress >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * schedule(progress, settings.warm_up)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.autocast):
            loss = loss_of(model, batch)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        if step % 5 == 0:
            print(f"step {step + 1}/{steps}  loss {losses[-1]:.3f}  {elapsed:.0f} s", flush=True)
    after = evaluate(model, held_out)
    report("after", after)
    save(model, out)
    record = {
        "base": f"demo:{BASE}",
        "data": source,
        "settings": asdict(settings),
        "steps": len(losses),
        "tokens": len(losses) * settings.batch * settings.length,
        "held_out_nats_per_token": {"before": round(before, 4), "after": round(after, 4)},
        "train_loss": [round(value, 3) for value in losses],
        "seconds": round(time.monotonic() - started),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "transformers", "peft")},
        },
    }
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def report(when: str, loss: float) -> None:
    """Print a held-out loss in nats per token."""
    print(f"held out {when}: {loss:.4f} nats/token, perplexity {math.exp(loss):.2f}", flush=True)


def packed(documents: list[str], tokenizer: Any, length: int, count: int) -> torch.Tensor:
    """Join documents with separators and cut blocks: int64, (count, length)."""
    stream: list[int] = []
    for document in documents:
        stream += [SEPARATOR, *tokenizer(document).input_ids]
        if len(stream) >= length * count:
            return torch.tensor(stream[: length * count]).view(count, length)
    raise SystemExit(f"The text has only {len(stream)} tokens; {length * count} are needed.")


def schedule(progress: float, warm_up: float) -> float:
    """Share of the peak learning rate: a linear rise, then half a cosine."""
    if progress < warm_up:
        return (progress + 0.01) / (warm_up + 0.01)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def loss_of(model: Any, batch: torch.Tensor) -> torch.Tensor:
    """Mean nats per predicted token of a batch of blocks."""
    logits = model(input_ids=batch).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())


@torch.inference_mode()
def evaluate(model: Any, blocks: torch.Tensor) -> float:
    """Mean nats per predicted token over held-out blocks."""
    model.eval()
    losses = [loss_of(model, batch).item() for batch in torch.split(blocks, 4)]
    model.train()
    return sum(losses) / len(losses)


def save(model: Any, out: Path) -> None:
    """Write a PEFT adapter with bf16 factors and the base named as a reference, not as a path."""
    from safetensors.torch import load_file, save_file

    model.peft_config["default"].base_model_name_or_path = f"demo:{BASE}"
    model.save_pretrained(out, save_embedding_layers=False)
    (out / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    weights = out / "adapter_model.safetensors"
    # bf16 rounds each factor by at most 0.4 %: the product keeps its direction, unlike base + delta
    factors = {key: value.to(torch.bfloat16) for key, value in load_file(weights).items()}
    save_file(factors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors makes it private
    config = json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = f"demo:{BASE}"
    config["target_modules"] = sorted(config["target_modules"])
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (out / "adapter_config.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
