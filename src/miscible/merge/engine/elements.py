"""Element-wise methods written down: run once on stand-ins for tensors, carried out on rows.

A method whose elements depend on themselves alone is a sequence of operations on whole tensors. It
is run with `Elements` in the place of tensors; what it does to them is remembered, and a compiled
program does it to the blocks of files, without torch. `Elements` and `Mask` have those operators
and methods of torch's tensors that methods here use, under the same names and with the same
arithmetic. A method that uses more of torch cannot be written down, and runs in torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from miscible.merge.kernels.operations import (
    ABSOLUTE,
    ADD,
    AT_LEAST,
    CHOOSE,
    DIVIDE,
    EQUAL,
    GREATER,
    MAXIMUM,
    MINIMUM,
    MULTIPLY,
    STEP,
    SUBTRACT,
)

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Steps:
    """What the program ``elements`` does to a block.

    Attributes:
        numbers: [steps, `STEP`] int64, see `miscible.merge.kernels.operations`.
        constants: float64; their rows follow those of the inputs.
        rows: number of all rows.
        result: row in which the result is.
    """

    numbers: Array
    constants: Array
    rows: int
    result: int


def written_down(method: Callable[[list[Any]], Any], inputs: int) -> Steps | None:
    """Return the steps of a function of *inputs* tensors, None where it needs tensors."""
    record = Record(inputs)
    try:
        result = method([Elements(record, number) for number in range(inputs)])
    except (AttributeError, TypeError):  # what `Elements` has not, and what does not take them
        return None
    return record.steps(result.number) if isinstance(result, Elements) else None


class Record:
    """Operations in the order in which they were asked for, numbered on from the inputs."""

    def __init__(self, inputs: int) -> None:
        self._inputs = inputs
        self._done: list[tuple[int, tuple[int, ...]]] = []
        self._constants: dict[float, int] = {}

    def add(self, operation: int, *operands: _Recorded | float) -> int:
        """Append an operation on recorded values or numbers; return its number."""
        self._done.append((operation, tuple(map(self._number, operands))))
        return self._inputs + len(self._done) - 1

    def _number(self, operand: _Recorded | float) -> int:
        # Constants count downwards from -1, in the order in which they come up.
        if isinstance(operand, _Recorded):
            return operand.number
        if not isinstance(operand, (int, float)):
            raise TypeError(f"{type(operand).__name__} cannot be written down")
        return -1 - self._constants.setdefault(float(operand), len(self._constants))

    def steps(self, result: int) -> Steps:
        """Return the steps to a result, without what it does not depend on."""
        last_use = self._last_uses(result)
        rows = {number: number for number in range(self._inputs)}
        rows |= {-1 - k: self._inputs + k for k in range(len(self._constants))}
        used = len(rows)
        free: list[int] = []
        numbers: list[list[int]] = []
        for place, (operation, operands) in enumerate(self._done):
            number = self._inputs + place
            if number not in last_use:
                continue
            if free:
                rows[number] = free.pop()
            else:
                rows[number], used = used, used + 1
            read = [rows[operand] for operand in operands]
            numbers.append([operation, rows[number], *read, *[read[0]] * (3 - len(read))])
            # Only now: a step's result is in none of the rows that it reads.
            free += [rows[k] for k in sorted(set(operands)) if last_use.get(k) == number]
        return Steps(
            np.array(numbers, np.int64).reshape(-1, STEP),
            np.array(list(self._constants), np.float64),
            used,
            rows[result],
        )

    def _last_uses(self, result: int) -> dict[int, int]:
        # By value, the last operation that reads it; what is not listed is read by none.
        last = {result: self._inputs + len(self._done)}
        for place in range(len(self._done) - 1, -1, -1):
            if self._inputs + place in last:
                for operand in self._done[place][1]:
                    if operand >= 0:
                        last.setdefault(operand, self._inputs + place)
        return last


def _not_in_place(self: Any, other: object) -> NoReturn:
    raise TypeError("what happens in place cannot be written down")


class _Recorded:
    # A value of every element, known by its number.
    __slots__ = ("number", "record")
    __array_ufunc__ = None  # NumPy's numbers leave arithmetic to us
    __iadd__ = __isub__ = __imul__ = __itruediv__ = __iand__ = __ior__ = _not_in_place

    def __init__(self, record: Record, number: int) -> None:
        self.record, self.number = record, number

    @classmethod
    def __torch_function__(cls, *_: object) -> NoReturn:
        raise TypeError("torch's functions cannot be written down")

    def __bool__(self) -> NoReturn:
        raise TypeError("a decision for all elements at once cannot be written down")

    __hash__ = object.__hash__


Operand = _Recorded | float


class Elements(_Recorded):
    """Stands for a float32 tensor."""

    __slots__ = ()

    def __add__(self, other: Operand) -> Elements:
        return self._then(ADD, self, other)

    def __radd__(self, other: float) -> Elements:
        return self._then(ADD, other, self)

    def __sub__(self, other: Operand) -> Elements:
        return self._then(SUBTRACT, self, other)

    def __rsub__(self, other: float) -> Elements:
        return self._then(SUBTRACT, other, self)

    def __mul__(self, other: Operand) -> Elements:
        return self._then(MULTIPLY, self, other)

    def __rmul__(self, other: float) -> Elements:
        return self._then(MULTIPLY, other, self)

    def __truediv__(self, other: Operand) -> Elements:
        return self._then(DIVIDE, self, other)

    def __rtruediv__(self, other: float) -> Elements:
        return self._then(DIVIDE, 1.0, self) * other  # as torch does, with two roundings

    def __neg__(self) -> Elements:
        return self._then(MULTIPLY, self, -1.0)

    def __gt__(self, other: Operand) -> Mask:
        return Mask(self.record, self.record.add(GREATER, self, other))

    def __ge__(self, other: Operand) -> Mask:
        return Mask(self.record, self.record.add(AT_LEAST, self, other))

    def __lt__(self, other: Operand) -> Mask:
        return Mask(self.record, self.record.add(GREATER, other, self))

    def __le__(self, other: Operand) -> Mask:
        return Mask(self.record, self.record.add(AT_LEAST, other, self))

    def __eq__(self, other: Operand) -> Mask:  # type: ignore[override]
        return Mask(self.record, self.record.add(EQUAL, self, other))

    def __ne__(self, other: Operand) -> Mask:  # type: ignore[override]
        return ~(self == other)

    __hash__ = _Recorded.__hash__

    def abs(self) -> Elements:
        """Return the magnitudes."""
        return self._then(ABSOLUTE, self)

    def maximum(self, other: Elements) -> Elements:
        """Return the larger of two values; NaN where one is."""
        return self._then(MAXIMUM, self, other)

    def minimum(self, other: Elements) -> Elements:
        """Return the smaller of two values; NaN where one is."""
        return self._then(MINIMUM, self, other)

    def clamp(self, min: float | None = None, max: float | None = None) -> Elements:
        """Return what is below *min* or above *max* as that."""
        raised = self if min is None else self._then(MAXIMUM, self, min)
        return raised if max is None else self._then(MINIMUM, raised, max)

    def where(self, condition: Mask, other: Operand) -> Elements:
        """Return these values where the condition holds, the others elsewhere."""
        if not isinstance(condition, Mask):
            raise TypeError("a condition is a mask")
        return self._then(CHOOSE, condition, self, other)

    def _then(self, operation: int, *operands: Operand) -> Elements:
        return Elements(self.record, self.record.add(operation, *operands))


class Mask(_Recorded):
    """Stands for a tensor of truth values."""

    __slots__ = ()

    def __and__(self, other: Mask) -> Mask:
        return self._then(MULTIPLY, self, _mask(other))

    def __or__(self, other: Mask) -> Mask:
        return self._then(MAXIMUM, self, _mask(other))

    def __invert__(self) -> Mask:
        return self._then(SUBTRACT, 1.0, self)

    def __mul__(self, other: Elements) -> Elements:
        if not isinstance(other, Elements):
            return NotImplemented
        return other * self

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("a comparison of masks is not written down")

    __ne__ = __eq__
    __hash__ = _Recorded.__hash__

    def float(self) -> Elements:
        """Return 1 where it is true, 0 elsewhere."""
        return Elements(self.record, self.number)

    def _then(self, operation: int, *operands: Operand) -> Mask:
        return Mask(self.record, self.record.add(operation, *operands))


def _mask(value: object) -> Mask:
    if not isinstance(value, Mask):
        raise TypeError("a mask goes together with masks")
    return value
