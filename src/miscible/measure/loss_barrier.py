"""Loss barrier: what two models lose when they meet halfway (1912.05671, section 2).

With m the mean of both models' weights and L the mean loss, the half of model a is L_a(m) - L_a(a),
and the barrier is the mean of both halves. L_a is the loss on a's own data where models came with
data of their own, else that on the data of all. `miscible.measure.midpoint` runs the midpoints.
"""

from __future__ import annotations

import math

from miscible.measure.contract import MidpointPair, Pair, Value, metric

CATEGORY = "loss"
PAPER = "1912.05671"


@metric("loss_barrier", category=CATEGORY, needs="midpoints", paper=PAPER)
def loss_barrier(pair: Pair) -> float | Value:
    """Loss at the midpoint of both models above the mean of their own losses, in nats."""
    held = _of(pair)
    return _value(held, held.barrier)


@metric("loss_barrier_first", category=CATEGORY, needs="midpoints", symmetric=False)
def loss_barrier_first(pair: Pair) -> float | Value:
    """Loss at the midpoint above that of the pair's first model, on its data, in nats."""
    held = _of(pair)
    return _value(held, held.half_a)


@metric("loss_barrier_second", category=CATEGORY, needs="midpoints", symmetric=False)
def loss_barrier_second(pair: Pair) -> float | Value:
    """Loss at the midpoint above that of the pair's second model, on its data, in nats."""
    held = _of(pair)
    return _value(held, held.half_b)


def _of(pair: Pair) -> MidpointPair:
    assert pair.midpoints is not None, "the contract asks for it"
    return pair.midpoints


def _value(held: MidpointPair, value: float) -> float | Value:
    return Value(math.nan, "failed", held.reason, 0.0) if held.reason else value
