"""Hidden units of feed-forward modules."""

from __future__ import annotations

from collections.abc import Mapping

from miscible.merge.align.permutation_spec import Group, Member
from miscible.models.formats.safetensors import TensorInfo
from miscible.models.layout import role_of

_PATTERNS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("gate_proj", "up_proj"), "down_proj"),
    (("w1", "w3"), "w2"),
    (("wi_0", "wi_1"), "wo"),
    (("gate_up_proj",), "down_proj"),
    (("up_proj",), "down_proj"),
    (("wi",), "wo"),
    (("Wi",), "Wo"),
    (("fc1",), "fc2"),
    (("fc_in",), "fc_out"),
    (("c_fc",), "c_proj"),
    (("lin1",), "lin2"),
    (("linear1",), "linear2"),
    (("dense_h_to_4h",), "dense_4h_to_h"),
    (("intermediate_dense",), "output_dense"),
    (("intermediate.dense",), "output.dense"),
    (("net.0.proj",), "net.2"),
)
"""Projections into the hidden units (multiplied element by element if two), and out of them."""
_WEIGHTS = tuple(tuple(f"{m}.weight" for m in (*into, out)) for into, out in _PATTERNS)
_PARAMETERS = ("weight", "bias")


def hidden_units(prefix: str, scope: Mapping[str, TensorInfo]) -> Group | None:
    """Return the hidden units of a module, None if it is no feed-forward module as known.

    Args:
        prefix: of the module's tensors.
        scope: its tensors, by the rest of their names.
    """
    for weights, (inputs, output) in zip(_WEIGHTS, _PATTERNS, strict=True):
        if weights[0] in scope and all(weight in scope for weight in weights):
            return _group(prefix, scope, inputs, output)
    return None


def _group(
    prefix: str, scope: Mapping[str, TensorInfo], inputs: tuple[str, ...], output: str
) -> Group | None:
    into, out = (scope[f"{module}.weight"].shape for module in (inputs[0], output))
    if len(into) != 2 or len(out) != 2:
        return None
    stored_transposed = _is_transposed(scope, inputs[0])
    if stored_transposed is None:
        return None
    axis = int(stored_transposed)
    units = out[1 - axis]
    members = [Member(f"{prefix}{output}.weight", 1 - axis)]
    known = {f"{output}.{parameter}" for parameter in _PARAMETERS}
    for module in inputs:
        for parameter in _PARAMETERS:
            name = f"{module}.{parameter}"
            if name not in scope:
                continue
            along = axis if parameter == "weight" else 0
            length = scope[name].shape[along]
            fused = length == 2 * units and len(inputs) == 1  # a gate and what it gates
            if length != units and not fused:
                return None
            offsets = (0, units) if fused else (0,)
            members += [Member(prefix + name, along, 1, offset) for offset in offsets]
            known.add(name)
    if any(
        _depends(prefix + name, info, units) for name, info in scope.items() if name not in known
    ):
        return None
    if not all(scope[member.tensor.removeprefix(prefix)].floating for member in members):
        return None
    return Group(f"{prefix}{output}", units, tuple(members))


def _is_transposed(scope: Mapping[str, TensorInfo], module: str) -> bool | None:
    # GPT-2 stores [inputs, outputs]; None: cannot be told.
    if module != "c_fc":
        return False
    weight, bias = scope["c_fc.weight"].shape, scope.get("c_fc.bias")
    if bias is None or weight[0] == weight[1]:
        return None
    return bias.shape[0] == weight[1]


def _depends(name: str, info: TensorInfo, units: int) -> bool:
    # Whether a tensor of the module, unknown, may index the hidden units (a norm between them).
    return role_of(name) != "attention" and any(n in (units, 2 * units) for n in info.shape)
