"""Writing LoRA adapters in PEFT's format: whole or not at all.

Everything is written into a hidden folder beside the destination that is renamed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import CheckpointError
from miscible.models.adapter_config import CONFIG_NAME
from miscible.models.adapter_keys import PREFIX
from miscible.models.adapters import WEIGHTS_NAME
from miscible.models.delta import LowRank
from miscible.models.writer import refuse_existing

if TYPE_CHECKING:
    import torch


def write_adapter(
    destination: Path,
    factors: Mapping[str, LowRank],
    *,
    base_model: str | None,
    target_modules: Sequence[str],
    task_type: str | None = None,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write an adapter folder that PEFT and `miscible.models.adapters.LoraAdapter` load.

    Args:
        destination: a folder that does not exist, or is empty.
        factors: by module name; matrices, all of them stored the same way round. Their dtypes are
            kept and ``lora_alpha`` equals the rank everywhere, so that nothing is scaled but by
            `LowRank.scale`, which is multiplied into the second factor.
        base_model: what the config names as the base.
        target_modules: modules for PEFT to adapt, by name or by the end of it.
        task_type: PEFT's (``CAUSAL_LM``), None to leave it open.
        texts: further files.

    Raises:
        CheckpointError: if the destination exists, cannot be written, or the disk is full; nothing
            is left behind then.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    refuse_existing(destination)
    config = _config(factors, base_model, target_modules, task_type)
    with _appearing(destination) as folder:
        try:
            save_file(dict(_tensors(factors)), folder / WEIGHTS_NAME, {"format": "pt"})
        except SafetensorError as error:
            raise OSError(None, str(error)) from error
        _write_text(folder / CONFIG_NAME, json.dumps(config, indent=2) + "\n")
        for name, text in (texts or {}).items():
            _write_text(folder / name, text)
        for path in folder.iterdir():
            _sync(path)


def _config(
    factors: Mapping[str, LowRank],
    base_model: str | None,
    target_modules: Sequence[str],
    task_type: str | None,
) -> dict[str, Any]:
    ranks = {module: held.a.shape[0] for module, held in factors.items()}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    # PEFT matches patterns against the end of a name; anchored ones match no other module.
    others = {f"^{module}": rank for module, rank in ranks.items() if rank != usual}
    return {
        "peft_type": "LORA",
        "task_type": task_type,
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "use_rslora": False,
        "use_dora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(held.transposed for held in factors.values()),
        "init_lora_weights": True,
        "modules_to_save": None,
        "target_modules": list(target_modules),
    }


def _tensors(factors: Mapping[str, LowRank]) -> Iterator[tuple[str, torch.Tensor]]:
    for module, held in factors.items():
        b = held.b if held.scale == 1.0 else (held.b.double() * held.scale).to(held.b.dtype)
        yield f"{PREFIX}{module}.lora_A.weight", held.a.contiguous()
        yield f"{PREFIX}{module}.lora_B.weight", b.contiguous()


@contextmanager
def _appearing(destination: Path) -> Iterator[Path]:
    partial: Path | None = None
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(
            tempfile.mkdtemp(prefix=f".{destination.name}.partial-", dir=destination.parent)
        )
        partial.chmod(0o755)  # mkdtemp's folders are closed to others
        yield partial
        _sync(partial)
        partial.rename(destination)
        _sync(destination.parent)
    except OSError as error:
        raise CheckpointError(
            f"cannot be written: {error.strerror or error}.",
            where=str(destination),
            fix="Nothing was left behind.",
        ) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
