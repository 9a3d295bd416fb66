"""Weight matching of Git Re-Basin (2209.04836, section 3.2, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from miscible.errors import MiscibleError
from miscible.merge.align.permutation_spec import Group, Member

if TYPE_CHECKING:
    import torch

MAX_PASSES = 100


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """What weight matching found.

    Attributes:
        permutations: by group: for each place, the unit (its finest parts, if the group has inner
            ones) that is moved to it.
        objectives: inner product of the two models' weights before, and after each accepted step.
    """

    permutations: Mapping[str, np.ndarray]
    objectives: tuple[float, ...]


def match_weights(
    groups: Sequence[Group],
    target: Callable[[str], torch.Tensor],
    model: Callable[[str], torch.Tensor],
) -> Matching:
    """Permute units of *model* so that the inner product of its weights with *target*'s is high.

    Coordinate descent: each group in turn, in the order given, gets its best permutation while the
    others stay, until a pass changes nothing. The joint problem is NP-hard; the result is exact
    where no tensor connects two groups, and a local optimum otherwise. The inner product never
    decreases. Deterministic.

    Args:
        groups: see `miscible.merge.align.permutation_spec`.
        target, model: from a tensor's name to its values.

    Raises:
        MiscibleError: if a tensor holds NaN or infinity.
    """
    names = dict.fromkeys(member.tensor for group in groups for member in group.members)
    a = {name: _finite(name, target(name)) for name in names}
    b = {name: _finite(name, model(name)) for name in names}
    along: dict[str, list[tuple[Group, Member]]] = {name: [] for name in names}
    for group in groups:
        for member in group.members:
            along[member.tensor].append((group, member))
    found = {group.name: np.arange(group.size * group.inner) for group in groups}
    objectives = [sum(_inner(a[name], b[name]) for name in names)]
    for _ in range(MAX_PASSES):
        changed = False
        for group in groups:
            tensors = dict.fromkeys(member.tensor for member in group.members)
            others = {
                name: permuted(
                    b[name], [held for held in along[name] if held[0] is not group], found
                )
                for name in tensors
            }
            fresh = found | {group.name: _best(group, a, others)}
            gain = sum(
                _inner(a[name], permuted(b[name], along[name], fresh))
                - _inner(a[name], permuted(b[name], along[name], found))
                for name in tensors
            )
            # Only what rounding could not have made is a gain; ties leave units in their places.
            if gain > 1e-12 * abs(objectives[-1]):
                found, changed = fresh, True
                objectives.append(objectives[-1] + gain)
        if not changed or len(groups) == 1:
            break
    return Matching(found, tuple(objectives))


def permuted(
    tensor: torch.Tensor,
    along: Sequence[tuple[Group, Member]],
    permutations: Mapping[str, np.ndarray],
) -> torch.Tensor:
    """Return a tensor with the units of the groups that lie along its axes permuted."""
    import torch

    indices: dict[int, np.ndarray] = {}
    for group, member in along:
        units = _units(group, member, permutations[group.name])
        index = indices.setdefault(member.axis, np.arange(tensor.shape[member.axis]))
        end = member.offset + member.width * len(units)
        moved = units[:, None] * member.width + np.arange(member.width)
        index[member.offset : end] = member.offset + moved.ravel()
    for axis, index in indices.items():
        if not np.array_equal(index, np.arange(len(index))):
            tensor = tensor.index_select(axis, torch.from_numpy(index))
    return tensor


def _units(group: Group, member: Member, permutation: np.ndarray) -> np.ndarray:
    return permutation if member.fine else permutation[:: group.inner] // group.inner


def _best(group: Group, a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> np.ndarray:
    import torch

    coarse = torch.zeros(group.size, group.size)
    parts = group.size * group.inner
    fine = coarse if group.inner == 1 else torch.zeros(parts, parts)
    for member in group.members:
        count = group.count(member)
        gain = fine if member.fine else coarse
        gain.addmm_(
            _rows(a[member.tensor], member, count), _rows(b[member.tensor], member, count).T
        )
    if group.inner == 1:
        return _assign(coarse.numpy())
    # The best order of the parts is found for every pair of units; then the units are assigned.
    blocks = fine.numpy().reshape(group.size, group.inner, group.size, group.inner)
    total, orders = coarse.double().numpy(), {}
    for i in range(group.size):
        for j in range(group.size):
            order = orders[i, j] = _assign(blocks[i, :, j])
            total[i, j] += blocks[i, np.arange(group.inner), j, order].sum()
    units = _assign(total)
    return np.concatenate([j * group.inner + orders[i, j] for i, j in enumerate(units.tolist())])


def _rows(tensor: torch.Tensor, member: Member, count: int) -> torch.Tensor:
    # [units, everything that belongs to one]
    part = tensor.narrow(member.axis, member.offset, count * member.width)
    return part.movedim(member.axis, 0).reshape(count, -1).float()


def _assign(gain: np.ndarray) -> np.ndarray:
    """Return the permutation p that maximises sum_i gain[i, p(i)]."""
    from scipy.optimize import linear_sum_assignment

    nearest: np.ndarray = gain.argmax(axis=1)
    if len(np.unique(nearest)) == len(nearest):  # nothing is better than the best of each row
        return nearest
    columns: np.ndarray = linear_sum_assignment(gain, maximize=True)[1]
    return columns


def _inner(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() * b.double()).sum())


def _finite(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.isfinite().all():
        raise MiscibleError(
            f"tensor {name!r} holds NaN or infinity, so that its units cannot be matched."
        )
    return tensor
