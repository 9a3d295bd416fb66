"""A merge as a LoRA adapter of its base: a chosen rank, and what it costs.

The best approximation of a difference by a matrix of rank r is its truncated singular value
decomposition (Eckart and Young, 1936), a matrix at a time. Where the merged difference is an exact
combination of low-rank ones (LoRAs merged linearly), it is found from their factors, and rank
r1 + r2 + ... holds it exactly.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from miscible import __version__
from miscible.errors import IncompatibleModelsError, MiscibleError
from miscible.merge.dose import possible_changes
from miscible.merge.lora_factors import Approximation, approximate_matrix, approximate_sum
from miscible.models.adapter_writer import write_adapter
from miscible.models.checkpoint import Checkpoint
from miscible.models.delta import LowRank
from miscible.models.layout import is_output_head, role_of
from miscible.models.live import parse_dtype
from miscible.models.ref import DEMO_PREFIX, is_hub_id
from miscible.models.writer import refuse_existing
from miscible.progress import task

if TYPE_CHECKING:
    import torch

Rank: TypeAlias = int | Literal["exact"]
Combination: TypeAlias = tuple[Sequence[LowRank], Sequence[float]]
"""Low-rank differences and their weights."""
_CONV1D = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})


@dataclass(frozen=True, slots=True)
class WrittenTensor:
    """How well one weight's difference was held.

    Attributes:
        name: of the weight.
        rank: of what was written.
        norm: Frobenius norm of the difference.
        error: norm of what was lost, relative to `norm`.
    """

    name: str
    rank: int
    norm: float
    error: float


@dataclass(frozen=True, slots=True)
class LoraReport:
    """What a merge lost as an adapter.

    Attributes:
        tensors: the weights that were written.
        dropped: norms of the differences that no LoRA of linear layers can hold, by tensor.
        error: norm of all that was lost, relative to that of the whole difference.
    """

    tensors: tuple[WrittenTensor, ...]
    dropped: Mapping[str, float]
    error: float

    @property
    def dropped_share(self) -> float:
        """Norm of what was dropped, relative to that of the whole difference."""
        total = _norm([*(t.norm for t in self.tensors), *self.dropped.values()])
        return _norm(self.dropped.values()) / total if total else 0.0


def write_lora(
    merge: Checkpoint,
    base: Checkpoint,
    destination: Path,
    rank: Rank,
    *,
    combination: Callable[[str], Combination | None] | None = None,
    drop_rest: bool = False,
    dtype: str = "float32",
    base_model: str | None = None,
) -> LoraReport:
    """Write *merge* as a LoRA adapter of *base* in PEFT's format.

    Reads one tensor of each at a time; the adapter itself is held in memory.

    Args:
        merge: a merge, or any model with the tensors of *base*.
        base: what the adapter is to be put on.
        destination: a folder that does not exist, or is empty.
        rank: of every difference, less where a matrix is smaller; ``"exact"``: the smallest that
            holds it to 1e-6 of its norm, or to the rounding of float32 where that is more.
        combination: returns the low-rank differences and weights of which a weight's difference is
            exactly the sum, None where it is not; ``merge.low_rank_delta`` is asked otherwise.
        drop_rest: whether to leave out differences that no LoRA of linear layers can hold (norms,
            biases, embeddings, convolutions); an error otherwise.
        dtype: of the factors; errors are those of the factors as written.
        base_model: what the adapter names as its base; the base's own name, or the last part of it
            if it is a local path.

    Raises:
        MiscibleError: for a rank or dtype that is none, if nothing differs, or if something does
            that an adapter cannot hold (see *drop_rest*).
        IncompatibleModelsError: if the models' tensors do not fit together.
        CheckpointError: if the adapter cannot be written.
    """
    if rank != "exact" and (isinstance(rank, bool) or not isinstance(rank, int) or rank < 1):
        raise MiscibleError(f"{rank!r} is not a rank.", fix="Give a whole number, or 'exact'.")
    refuse_existing(destination)
    chosen = parse_dtype(dtype)
    linear, rest = _split(_candidates(merge, base), base)
    dropped = {name: norm for name in rest if (norm := _distance(merge, base, name)) > 0}
    if dropped and not drop_rest:
        raise _refusal(merge, base, linear, dropped)
    written: list[WrittenTensor] = []
    factors: dict[str, LowRank] = {}
    with task(f"adapter of {merge.name}", len(linear)) as advance:
        for name in linear:
            found = _approximated(merge, base, name, rank, combination, chosen)
            if found is not None:
                factors[name.removesuffix(".weight")] = found.factors
                held = found.factors.a.shape[0]
                written.append(WrittenTensor(name, held, found.norm, found.error))
            advance(1)
    if not factors:
        raise MiscibleError(f"no linear layer differs from {base.name}.", where=merge.name)
    report = _report(written, dropped)
    write_adapter(
        destination,
        factors,
        base_model=base_model or _public(base.name),
        target_modules=_targets(list(factors), base),
        task_type="CAUSAL_LM" if "CausalLM" in str(base.config.get("architectures")) else None,
        texts={"README.md": _card(merge, base, destination.name, report, base_model)},
    )
    return report


def _candidates(merge: Checkpoint, base: Checkpoint) -> list[str]:
    for first, second in ((merge, base), (base, merge)):
        for name, info in first.tensors.items():
            other = second.tensors.get(name)
            if other is None or other.shape != info.shape:
                raise IncompatibleModelsError(
                    f"tensor {name!r} of {first.name} is missing or of another shape.",
                    where=second.name,
                    fix="An adapter can neither add nor remove tensors.",
                )
    possible = possible_changes(merge, base)
    return [
        name
        for name, info in base.tensors.items()
        if info.floating and (possible is None or name in possible)
    ]


def _split(names: Sequence[str], base: Checkpoint) -> tuple[list[str], list[str]]:
    linear = [name for name in names if _is_linear(name, base)]
    return linear, [name for name in names if name not in set(linear)]


def _is_linear(name: str, base: Checkpoint) -> bool:
    if not name.endswith(".weight") or len(base.tensors[name].shape) != 2:
        return False
    # PEFT's flag for weights stored [inputs, outputs] holds for all layers, and a head is not.
    return role_of(name) != "embedding" and not (is_output_head(name) and _transposed(base))


def _transposed(base: Checkpoint) -> bool:
    return str(base.config.get("model_type")) in _CONV1D


def _approximated(
    merge: Checkpoint,
    base: Checkpoint,
    name: str,
    rank: Rank,
    combination: Callable[[str], Combination | None] | None,
    dtype: torch.dtype,
) -> Approximation | None:
    limit = None if rank == "exact" else rank
    parts = combination(name) if combination is not None else None
    if parts is None:
        low_rank = merge.low_rank_delta(name, base)
        parts = None if low_rank is None else ([low_rank], [1.0])
    if parts is not None:
        return approximate_sum(*parts, limit, dtype)
    delta, wide, noise = _difference(merge, base, name)
    turned = _transposed(base)
    return approximate_matrix(delta, limit, dtype, wide=wide, noise=noise, transposed=turned)


class _Difference(NamedTuple):
    delta: torch.Tensor  # float64
    wide: torch.dtype  # in which the merge was computed
    noise: float  # norm of what rounding can make of no difference at all


def _difference(merge: Checkpoint, base: Checkpoint, name: str) -> _Difference:
    import torch

    wide = torch.float64 if base.tensors[name].dtype == "F64" else torch.float32
    origin = base.read(name, torch.float64)
    noise = torch.finfo(wide).eps * float(origin.norm())
    return _Difference(merge.read(name, torch.float64) - origin, wide, noise)


def _distance(merge: Checkpoint, base: Checkpoint, name: str) -> float:
    found = _difference(merge, base, name)
    norm = float(found.delta.norm())
    return norm if norm > found.noise else 0.0


def _refusal(
    merge: Checkpoint, base: Checkpoint, linear: Sequence[str], dropped: Mapping[str, float]
) -> MiscibleError:
    total = _norm([*(_distance(merge, base, name) for name in linear), *dropped.values()])
    largest = sorted(dropped, key=lambda name: -dropped[name])
    shown = ", ".join(f"{name!r} ({dropped[name] / total:.2%})" for name in largest[:5])
    more = f" and {len(largest) - 5} more" if len(largest) > 5 else ""
    return MiscibleError(
        f"{len(dropped)} tensors differ that no LoRA of linear layers can hold, with "
        f"{_norm(dropped.values()) / total:.2%} of the difference's norm: {shown}{more}.",
        where=merge.name,
        fix="Write the whole model, or drop them (drop_rest).",
    )


def _report(written: Sequence[WrittenTensor], dropped: Mapping[str, float]) -> LoraReport:
    total = _norm([*(t.norm for t in written), *dropped.values()])
    lost = _norm([*(t.norm * t.error for t in written), *dropped.values()])
    return LoraReport(tuple(written), dict(dropped), lost / total if total else 0.0)


def _norm(norms: Iterable[float]) -> float:
    return math.hypot(*norms)


def _targets(modules: Sequence[str], base: Checkpoint) -> list[str]:
    # The end of a name stands for all modules that bear it, if all of them are adapted.
    adapted, bearers = set(modules), defaultdict(set)
    for name in base.tensors:
        module = name.rpartition(".")[0]
        bearers[module.rpartition(".")[2]].add(module)
    targets = {
        end if bearers[end := module.rpartition(".")[2]] <= adapted else module
        for module in modules
    }
    return sorted(targets)


def _public(name: str) -> str:
    if name.startswith(DEMO_PREFIX) or is_hub_id(name):
        return name
    return Path(name).expanduser().name or "model"


def _card(
    merge: Checkpoint, base: Checkpoint, title: str, report: LoraReport, base_model: str | None
) -> str:
    named = base_model or _public(base.name)
    front = f"base_model: {named}\n" if is_hub_id(named) else ""
    worst = sorted(report.tensors, key=lambda t: -t.error * t.norm)[:10]
    rows = "\n".join(f"| `{t.name}` | {t.rank} | {t.error:.2e} |" for t in worst)
    ranks = sorted({t.rank for t in report.tensors})
    rank = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    left_out = (
        f"\n{len(report.dropped)} tensors that no LoRA of linear layers can hold were left out, "
        f"with {report.dropped_share:.2%} of the difference's norm.\n"
        if report.dropped
        else ""
    )
    return (
        f"---\nlibrary_name: peft\n{front}tags:\n- lora\n- merge\n- miscible\n---\n\n# {title}\n\n"
        f"A merge as a LoRA of {rank} on `{named}`, made with miscible {__version__}. "
        f"The adapter holds the merge's difference from the base but for "
        f"{report.error:.2e} of its norm.\n{left_out}\n"
        f"| weight | rank | relative error |\n|---|---|---|\n{rows}\n"
    )
