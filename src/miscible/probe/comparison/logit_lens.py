"""The logit lens: what each layer would say if it were the last, and how far that is from others.

The lens (nostalgebraist, "interpreting GPT: the logit lens", 2020) puts the state h of layer l
through the model's own final norm and output layer: p_l = softmax(W norm(h_l)). The last layer's
states are normalised already and only get the output layer, so that p_last is the model's own
prediction. Two numbers are taken from it, as means over token positions, in bits:

* `lens_curve`: KL(p_last ‖ p_l), how much of the prediction is not yet there at layer l;
* `lens_divergence`: KL(q_l ‖ p_l) with q a parent's lens (of its own norm and output layer): how
  much is lost at layer l when the merge is read in the parent's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from miscible.errors import IncompatibleModelsError
from miscible.probe.comparison.lens import Lens
from miscible.similarity.estimate import Estimate, Groups, first_reason, layer_flaws, mean_estimate

if TYPE_CHECKING:
    import torch

States: TypeAlias = npt.NDArray[np.floating]

CHUNK_LOGITS = 2**24
"""Logits of one model and layer that are held at once (64 MiB), whatever the vocabulary."""

_BITS = 1 / float(np.log(2))


def lens_curve(
    lens: Lens, states: States, layers: Sequence[int], groups: npt.ArrayLike | None = None
) -> Estimate:
    """Return KL(p_last ‖ p_l) of each layer, in bits, mean over positions.

    Args:
        lens: of the model that made *states*.
        states: of single tokens (a mean over tokens is no state of the model), [positions,
            layers, width].
        layers: which layers they are of; the last must be among them.
        groups: label of each position: the text that it is from. None for independent ones.

    Returns:
        [layers]; 0 for the last.

    Raises:
        ValueError: *layers* does not fit *states*, or lacks the last; labels that are not one a
            position.
    """
    if lens.last not in layers:
        raise ValueError(f"the last layer, {lens.last}, is not among {tuple(layers)}")
    final = list(layers).index(lens.last)
    flaws = layer_flaws(states, 1)
    if flaws[final]:
        flaws = first_reason(flaws, np.asarray(f"the last layer: {flaws[final]}"))
    return _divergences(lens, states, lens, states[:, [final]], layers, groups, flaws)


def lens_divergence(
    lens: Lens,
    states: States,
    reference: Lens,
    reference_states: States,
    layers: Sequence[int],
    groups: npt.ArrayLike | None = None,
) -> Estimate:
    """Return KL(q_l ‖ p_l) of each layer, in bits, mean over positions; q is the *reference*.

    Args:
        lens, states: of the merge; see `lens_curve`.
        reference, reference_states: of a parent, at the same positions and layers.
        layers: which layers the states are of.
        groups: label of each position: the text that it is from. None for independent ones.

    Returns:
        [layers].

    Raises:
        IncompatibleModelsError: the models differ in vocabulary or depth.
        ValueError: *layers* does not fit the states, or labels that are not one a position.
    """
    if len(lens.weight) != len(reference.weight) or lens.last != reference.last:
        raise IncompatibleModelsError(
            f"the models have vocabularies of {len(lens.weight)} and {len(reference.weight)} "
            f"tokens and {lens.last} and {reference.last} blocks.",
            fix="Logit lenses are compared token by token and layer by layer.",
        )
    if states.shape[:2] != reference_states.shape[:2]:
        raise ValueError(f"states of shapes {states.shape} and {reference_states.shape}")
    flaws = first_reason(layer_flaws(states, 1), layer_flaws(reference_states, 1))
    return _divergences(lens, states, reference, reference_states, layers, groups, flaws)


def _divergences(
    lens: Lens,
    states: States,
    reference: Lens,
    reference_states: States,
    layers: Sequence[int],
    groups: npt.ArrayLike | None,
    flaws: npt.NDArray[np.str_],
) -> Estimate:
    """Return KL(reference ‖ lens); a reference of one layer serves all, and is the last."""
    import torch

    if states.shape[1] != len(layers):
        raise ValueError(f"states of {states.shape[1]} layers, not {len(layers)}")
    parts = Groups.of(groups, len(states))
    one_for_all = reference_states.shape[1] != len(layers)
    bits = np.full(states.shape[:2], np.nan)
    size = max(1, CHUNK_LOGITS // len(lens.weight))
    sound = np.flatnonzero(flaws == "").tolist()
    with torch.inference_mode():
        for start in range(0, len(states), size):
            chunk = slice(start, start + size)
            shared = None
            for place in sound:
                target = shared
                if target is None:
                    source = 0 if one_for_all else place
                    layer = reference.last if one_for_all else layers[place]
                    target = _log_softmax(reference, reference_states[chunk, source], layer)
                    shared = target if one_for_all else None
                found = _log_softmax(lens, states[chunk, place], layers[place])
                bits[chunk, place] = _kl(target, found.to(target.device)) * _BITS
    lost = (~np.isfinite(bits)).sum(axis=0)
    texts = [f"the logits of {count} of {len(bits)} reads are not finite" for count in lost]
    flaws = first_reason(flaws, np.where(lost == 0, "", np.asarray(texts)))
    return mean_estimate(bits, parts, "log", flaws)


def _log_softmax(lens: Lens, states: States, layer: int) -> torch.Tensor:
    import torch

    given = torch.from_numpy(np.ascontiguousarray(states))
    return lens.logits(given, layer).log_softmax(dim=1)


def _kl(target: torch.Tensor, found: torch.Tensor) -> npt.NDArray[np.float64]:
    """Return KL in nats of each row of log-probabilities, [positions].

    Σ p (log p - log q) + q - p: no term is negative, and a rounding error in a row's normaliser,
    which plain float32 would add to the result, cancels.
    """
    import torch

    p, q = target.exp(), found.exp()
    terms = (target - found).mul_(p).add_(q).sub_(p)
    sums = terms.sum(dim=1, dtype=torch.float64).clamp_(min=0)
    return cast("npt.NDArray[np.float64]", sums.cpu().numpy())
