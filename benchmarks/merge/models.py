"""Make synthetic models for the benchmarks: a base and fine-tunes of it, shaped like Qwen2.

    python benchmarks/merge/models.py FOLDER 0.5B --models 2

Weights are Gaussian (0.02), fine-tunes differ from the base by Gaussian noise (0.002), all in
bfloat16. Tensors are drawn and written piece by piece, so that memory does not depend on the size.
Models that are there already are left as they are.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from miscible.models.checkpoint import SINGLE_NAME, FolderCheckpoint
from miscible.models.formats.safetensors import TensorInfo
from miscible.models.shard import ShardWriter

PIECE = 1 << 22
"""Elements drawn at a time."""
SPREAD, CHANGE = 0.02, 0.002
"""Standard deviations of the base's weights, and of what a fine-tune changes."""
BASE = "base"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the sizes of a Qwen2 model's tensors follow from; its embeddings are tied."""

    hidden: int
    layers: int
    intermediate: int
    key_value: int
    vocabulary: int
    heads: int

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors by name."""
        hidden, inner, kv = self.hidden, self.intermediate, self.key_value
        layer = {
            "self_attn.q_proj.weight": (hidden, hidden), "self_attn.q_proj.bias": (hidden,),
            "self_attn.k_proj.weight": (kv, hidden), "self_attn.k_proj.bias": (kv,),
            "self_attn.v_proj.weight": (kv, hidden), "self_attn.v_proj.bias": (kv,),
            "self_attn.o_proj.weight": (hidden, hidden),
            "mlp.gate_proj.weight": (inner, hidden), "mlp.up_proj.weight": (inner, hidden),
            "mlp.down_proj.weight": (hidden, inner),
            "input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,),
        }  # fmt: skip
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocabulary, hidden)
        }
        for number in range(self.layers):
            shapes |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
        shapes["model.norm.weight"] = (hidden,)
        return {name: TensorInfo("BF16", shape) for name, shape in shapes.items()}

    @property
    def elements(self) -> int:
        """Number of weights."""
        return sum(info.size for info in self.tensors.values())

    @property
    def config(self) -> Mapping[str, Any]:
        """The content of its config.json."""
        return {
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
            "hidden_size": self.hidden, "num_hidden_layers": self.layers,
            "intermediate_size": self.intermediate, "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value * self.heads // self.hidden,
            "vocab_size": self.vocabulary, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 32768, "rope_theta": 1e6, "torch_dtype": "bfloat16",
            "bos_token_id": 1, "eos_token_id": 2,
        }  # fmt: skip


SHAPES: Mapping[str, Shape] = {
    "tiny": Shape(256, 4, 1024, 64, 2000, 4),
    "0.05B": Shape(448, 12, 1216, 64, 49152, 7),
    "0.15B": Shape(576, 30, 1536, 192, 49152, 9),
    "0.5B": Shape(896, 24, 4864, 128, 151936, 14),
    "1.5B": Shape(1536, 28, 8960, 256, 151936, 12),
}


def make_models(root: Path, size: str, count: int) -> list[Path]:
    """Return the folders of the base and of *count* fine-tunes, made where they are missing."""
    shape, folders = SHAPES[size], [root / size / BASE]
    folders += [root / size / f"tuned-{number}" for number in range(1, count + 1)]
    for number, folder in enumerate(folders):
        if not (folder / "config.json").is_file():
            _write(folder, shape, number, FolderCheckpoint(folders[0]) if number else None)
    return folders


def _write(folder: Path, shape: Shape, number: int, base: FolderCheckpoint | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SINGLE_NAME).unlink(missing_ok=True)
    generator = np.random.Generator(np.random.SFC64(number))
    infos = shape.tensors
    with ShardWriter(folder / SINGLE_NAME, infos) as shard:
        for name, info in infos.items():
            for start in range(0, info.size, PIECE):
                values = generator.standard_normal(min(PIECE, info.size - start), np.float32)
                values *= SPREAD if base is None else CHANGE
                if base is not None:
                    values += _read(base, name, start, len(values))
                shard.write(name, 2 * start, _rounded(values).view(np.uint8).data)
        shard.close()
    # Written last: it says that the model is whole.
    (folder / "config.json").write_text(json.dumps(shape.config, indent=2) + "\n")


def _read(base: FolderCheckpoint, name: str, start: int, count: int) -> np.ndarray[Any, Any]:
    place = base.extent(name)
    assert place is not None
    path, extent = place
    with path.open("rb") as file:
        held = os.pread(file.fileno(), 2 * count, extent.offset + 2 * start)
    return (np.frombuffer(held, np.uint16).astype(np.uint32) << 16).view(np.float32)


def _rounded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # To the nearest bfloat16, to even between two; there is no infinity among these.
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def main() -> None:
    """Make the models of one size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", choices=SHAPES)
    parser.add_argument("--models", type=int, default=2, help="fine-tunes beside the base")
    asked = parser.parse_args()
    for folder in make_models(asked.folder, asked.size, asked.models):
        print(folder)


if __name__ == "__main__":
    main()
