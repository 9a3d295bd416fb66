"""Which units of a network may be permuted, and along which axes of which tensors they lie."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from miscible.errors import IncompatibleModelsError, SpecError
from miscible.models.formats.safetensors import TensorInfo


@dataclass(frozen=True, slots=True)
class Member:
    """An axis along which the units of a group lie: unit u at ``offset + [u, u + 1) * width``.

    Attributes:
        tensor: name.
        axis: dimension of the tensor.
        width: entries a unit takes (the size of a head; of an image behind a convolution).
        offset: where the first unit begins (the second half of a fused projection).
        fine: in a group of blocks: whether its units are the blocks' parts, not the blocks.
    """

    tensor: str
    axis: int
    width: int = 1
    offset: int = 0
    fine: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Units that are permuted together.

    Attributes:
        name: how messages call it.
        size: number of units.
        members: where they lie.
        inner: parts of each unit that may be permuted within it (query heads that share a key).
    """

    name: str
    size: int
    members: tuple[Member, ...]
    inner: int = 1

    def count(self, member: Member) -> int:
        """Return how many units lie along a member."""
        return self.size * self.inner if member.fine else self.size


class PermutationSpec:
    """All groups of a network.

    Raises:
        SpecError: if a group lies along two axes of one tensor (its permutation would be no linear
            assignment), or two groups are called the same.
    """

    def __init__(self, groups: Iterable[Group]) -> None:
        self.groups = tuple(groups)
        self._members: dict[str, list[tuple[Group, Member]]] = defaultdict(list)
        if len({group.name for group in self.groups}) != len(self.groups):
            raise SpecError("two groups of a permutation spec have the same name.")
        for group in self.groups:
            axes: dict[str, int] = {}
            for member in group.members:
                if axes.setdefault(member.tensor, member.axis) != member.axis:
                    raise SpecError(
                        f"group {group.name!r} lies along two axes of {member.tensor!r}.",
                        fix="Weight matching cannot solve for it; leave the group out.",
                    )
                self._members[member.tensor].append((group, member))

    @classmethod
    def from_axes(
        cls, axes: Mapping[str, Mapping[str, int]], tensors: Mapping[str, TensorInfo]
    ) -> PermutationSpec:
        """Make a spec from axes by tensor by group, as ``{"hidden": {"0.weight": 0, ...}}``.

        The shortest axis of a group counts its units; a longer one must be a multiple of it (a
        flattened image), and holds as many entries a unit, side by side.

        Raises:
            SpecError: if a tensor or an axis does not exist or does not fit.
        """
        groups = []
        for name, held in axes.items():
            for tensor, axis in held.items():
                if tensor not in tensors or not 0 <= axis < len(tensors[tensor].shape):
                    raise SpecError(f"there is no axis {axis} of {tensor!r}.", where=name)
            size = min(tensors[tensor].shape[axis] for tensor, axis in held.items())
            members = []
            for tensor, axis in held.items():
                width, left = divmod(tensors[tensor].shape[axis], max(size, 1))
                if left or not size:
                    raise SpecError(
                        f"axis {axis} of {tensor!r} is not a multiple of {size}.", where=name
                    )
                members.append(Member(tensor, axis, width))
            groups.append(Group(name, size, tuple(members)))
        return cls(groups)

    def of(self, tensor: str) -> Sequence[tuple[Group, Member]]:
        """Return the groups that lie along axes of a tensor."""
        return self._members.get(tensor, ())

    @cached_property
    def components(self) -> Mapping[str, tuple[Group, ...]]:
        """By group: the groups that have to be solved together, because tensors connect them."""
        root = {group.name: group.name for group in self.groups}

        def find(name: str) -> str:
            while root[name] != name:
                root[name] = root[root[name]]
                name = root[name]
            return name

        for held in self._members.values():
            for group, _ in held[1:]:
                root[find(group.name)] = find(held[0][0].name)
        together: dict[str, list[Group]] = defaultdict(list)
        for group in self.groups:
            together[find(group.name)].append(group)
        return {group.name: tuple(together[find(group.name)]) for group in self.groups}

    def check(self, tensors: Mapping[str, TensorInfo], model: str) -> None:
        """Check that a model has all tensors, long enough.

        Raises:
            IncompatibleModelsError: if it has not.
        """
        for group in self.groups:
            for member in group.members:
                info = tensors.get(member.tensor)
                needed = member.offset + member.width * group.count(member)
                if info is None or len(info.shape) <= member.axis:
                    problem = "is missing"
                elif info.shape[member.axis] < needed:
                    problem = f"has only {info.shape[member.axis]} entries along axis {member.axis}"
                elif not info.floating:
                    problem = "is not floating"
                else:
                    continue
                raise IncompatibleModelsError(
                    f"tensor {member.tensor!r} {problem}, whose units should be permuted.",
                    where=model,
                    fix="Only models of the same architecture can be aligned.",
                )


def chain(modules: Sequence[str], tensors: Mapping[str, TensorInfo]) -> PermutationSpec:
    """Return the spec of a plain chain of layers: the outputs of each but the last are permuted.

    Args:
        modules: names in the order of computation. Linear and convolution layers have a weight of
            two or more dimensions; one-dimensional parameters and statistics of a norm that treats
            each channel on its own (batch norm) follow the layer before them.
        tensors: of the model.

    Raises:
        SpecError: if a module has no weight, or does not take what the one before gives.
    """
    axes: dict[str, dict[str, int]] = {}
    current: dict[str, int] | None = None
    width = 0
    for module in modules:
        weight = tensors.get(f"{module}.weight")
        if weight is None:
            raise SpecError(f"module {module!r} has no weight.", fix="Leave it out of the chain.")
        held = [name for name in tensors if name.rpartition(".")[0] == module]
        if len(weight.shape) > 1:
            if current is not None:
                if weight.shape[1] % width:  # also a convolution in groups
                    raise SpecError(
                        f"module {module!r} takes {weight.shape[1]} inputs, the one before gives "
                        f"{width}."
                    )
                current[f"{module}.weight"] = 1
            width = max(weight.shape[0], 1)
            current = axes.setdefault(module, {})
        if current is not None:
            current |= {name: 0 for name in held if tensors[name].shape}
    if current is not None:
        axes.popitem()  # the outputs of the last layer are the network's
    return PermutationSpec.from_axes(axes, tensors)
