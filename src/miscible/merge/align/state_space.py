"""Inner channels of Mamba's selective state spaces (2312.00752, algorithm 2)."""

from __future__ import annotations

from collections.abc import Mapping

from miscible.merge.align.permutation_spec import Group, Member
from miscible.models.formats.safetensors import TensorInfo

_AXES = {
    "A_log": 0, "D": 0, "conv1d.weight": 0, "conv1d.bias": 0, "x_proj.weight": 1,
    "dt_proj.weight": 0, "dt_proj.bias": 0, "out_proj.weight": 1,
}  # fmt: skip
_FUSED = ("in_proj.weight", "in_proj.bias")  # the channels, and their gates
_NEEDED = frozenset({"A_log", "D", "x_proj.weight", "out_proj.weight", "in_proj.weight"})


def inner_channels(prefix: str, scope: Mapping[str, TensorInfo]) -> Group | None:
    """Return the inner channels of a module, None if it is not exactly Mamba's mixer.

    Each channel has a state of its own; only the projections out of a channel and into it mix.
    """
    if not scope.keys() >= _NEEDED or scope.keys() - {*_AXES, *_FUSED, "out_proj.bias"}:
        return None
    if len(scope["A_log"].shape) != 2:  # Mamba-2 has heads
        return None
    channels = scope["A_log"].shape[0]
    members = []
    for name, info in scope.items():
        if name == "out_proj.bias":
            continue
        axis = _AXES.get(name, 0)
        offsets = (0, channels) if name in _FUSED else (0,)
        if len(info.shape) <= axis or info.shape[axis] != channels * len(offsets):
            return None
        members += [Member(prefix + name, axis, 1, offset) for offset in offsets]
    return Group(f"{prefix}channels", channels, tuple(members))
