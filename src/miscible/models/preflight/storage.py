"""How weights are stored: dtypes, quantised formats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from miscible.models.formats.safetensors import BITS, TORCH_NAMES
from miscible.models.preflight.finding import Finding, Severity, by_value, shown, some
from miscible.models.preflight.subject import Subject

_PACKED = re.compile(
    r"\.(qweight|qzeros|weight_packed|SCB|quant_state\..*|absmax|weight_scale_inv|codebooks)$"
)
_FIX = "Use the model that it was quantised from; packed integers and 8-bit floats do not add up."


def check_storage(subjects: Sequence[Subject], *, dtype_given: bool) -> list[Finding]:
    """Look for quantised weights, and for dtypes that differ.

    Args:
        subjects: the models.
        dtype_given: whether the recipe says in what dtype the merge is written.
    """
    findings = [finding for subject in subjects for finding in _quantised(subject)]
    dtypes = [(s, d) for s in subjects if (d := _dtype(s)) is not None]
    if len({dtype for _, dtype in dtypes}) > 1:
        widest = max((BITS[dtype] for _, dtype in dtypes))
        mixed = {"F16", "BF16"} <= {dtype for _, dtype in dtypes}
        listed = by_value([(subject.label, TORCH_NAMES[dtype]) for subject, dtype in dtypes])
        models = tuple(subject.reference for subject, _ in dtypes)
        fix = None if dtype_given else "Give the recipe an 'out_dtype', for example bfloat16."
        result = "" if dtype_given else f"; the merge takes {32 if mixed else widest} bits a weight"
        what = f"the dtype is {listed}{result}."
        severity = Severity.INFO if dtype_given else Severity.WARNING
        findings.append(Finding(severity, "dtype", models, what, fix))
    return findings


def _quantised(subject: Subject) -> list[Finding]:
    models = (subject.reference,)
    stated = subject.config.get("quantization_config")
    if stated:
        method = stated.get("quant_method") if isinstance(stated, dict) else None
        what = f"{subject.label} is quantised ({shown(method or 'quantization_config')})."
        return [Finding(Severity.ERROR, "quantised", models, what, _FIX)]
    if subject.checkpoint is None:
        return []
    tensors = subject.checkpoint.tensors
    small = [name for name, info in tensors.items() if info.dtype.startswith(("F8_", "F4", "F6_"))]
    if small:
        what = f"{subject.label} stores {len(small)} tensors as 8-bit floats: {some(small, 1)}."
        return [Finding(Severity.ERROR, "quantised", models, what, _FIX)]
    packed = [name for name in tensors if _PACKED.search(name)]
    if packed:
        what = f"{subject.label} holds {len(packed)} packed tensors: {some(packed, 1)}."
        return [Finding(Severity.ERROR, "quantised", models, what, _FIX)]
    return []


def _dtype(subject: Subject) -> str | None:
    """Return the dtype of most of a model's weights."""
    if subject.checkpoint is None:
        return None
    count: Counter[str] = Counter()
    for info in subject.checkpoint.tensors.values():
        if info.floating:
            count[info.dtype] += info.size
    return count.most_common(1)[0][0] if count else None
