"""What all models made of all calibration data: losses, mean states and Grams of gradients.

The data are taken in pieces, one a data set and fold. A gradient is linear in the data, so one
Gram of the gradients of all models on all pieces holds those of every union of pieces: one draw
gives the metrics on a model's own data, on its partner's, on both, and on every part of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, permutations
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from miscible.errors import MiscibleError, UnknownNameError, did_you_mean
from miscible.keys import content_key
from miscible.measure.gram import Gram
from miscible.measure.pair import ActivationPair, GradientPair
from miscible.similarity.cka import linear_cka

Array: TypeAlias = npt.NDArray[np.float64]
Kind: TypeAlias = Literal["encoder", "input"]
KINDS: tuple[Kind, ...] = ("encoder", "input")
Variant: TypeAlias = Literal["union", "own", "partner"]
VARIANTS: tuple[Variant, ...] = ("union", "own", "partner")
"""Both models always see the same inputs: those of both (``union``), those of the pair's first
model (``own``), or those of its second (``partner``). Data that belong to nobody are part of every
union."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of calibration data.

    Attributes:
        data: name of the data set.
        owner: model whose own data it is, empty for data of nobody.
        samples, tokens, predictions: sizes; the mean loss is over the predictions.
        key: a content key.
    """

    data: str
    owner: str
    samples: int
    tokens: int
    predictions: int
    key: str


@dataclass(frozen=True, eq=False)
class Trace:
    """What every model made of every piece.

    Attributes:
        models: their names.
        pieces: in order.
        loss: mean loss in nats, [models, pieces]; NaN where a model failed.
        states: by model that did not fail: mean hidden state of each sample of each piece in
            order, float64 [samples, layers, width].
        grams: by kind: inner products of the gradients of the mean losses of model i on piece p
            and of model j on piece q, float64 [models, pieces, models, pieces]; NaN where a model
            failed. A kind that was not measured is absent.
        tensor_grams: the same by parameter, if asked for; they add up to that of ``encoder``.
        coverage: share of a model's parameters of which ``encoder`` is made.
        failures: by model, why it has no numbers.
    """

    models: tuple[str, ...]
    pieces: tuple[Piece, ...]
    loss: Array
    states: Mapping[str, Array] = field(repr=False)
    grams: Mapping[Kind, Array] = field(repr=False)
    tensor_grams: Mapping[str, Array] = field(repr=False)
    coverage: float
    failures: Mapping[str, str]

    @property
    def key(self) -> str:
        """A content key of the calibration data."""
        return content_key(pieces=[piece.key for piece in self.pieces])

    def of_parameters(self, names: Sequence[str], coverage: float) -> Trace:
        """Return the same with the gradients of some parameters alone; it needs `tensor_grams`.

        Args:
            names: of the parameters.
            coverage: share of the parameters of which *names* are what all models share.
        """
        gram = sum((self.tensor_grams[name] for name in names), np.zeros(()))
        return replace(self, grams={"encoder": gram}, tensor_grams={}, coverage=coverage)

    def missing(self, a: str, b: str) -> str:
        """Return why a pair has no numbers, as a sentence, empty if it has."""
        said = [f"{name}: {self.failures[name]}" for name in (a, b) if name in self.failures]
        return " ".join(said)

    def activation_pairs(self, *, layer: int = 0) -> dict[tuple[str, str], ActivationPair]:
        """Return those of all ordered pairs that have numbers, for ``miscible.measure``.

        Args:
            layer: place in the list of layers that were traced.
        """
        found: dict[tuple[str, str], ActivationPair] = {}
        for a, b in combinations(self.models, 2):
            held = self.activations(a, b, layer=layer)
            if held is not None:  # CKA is the same both ways, and the dearest
                found[a, b] = held
                found[b, a] = replace(held, mean_state=held.mean_state[::-1])
        return found

    def gradient_pairs(self) -> dict[tuple[str, str], GradientPair]:
        """Return those of all ordered pairs that have numbers, for ``miscible.measure``."""
        found = {pair: self.gradients(*pair) for pair in permutations(self.models, 2)}
        return {pair: held for pair, held in found.items() if held is not None}

    def activations(
        self, a: str, b: str, pieces: Sequence[int] | None = None, *, layer: int = 0
    ) -> ActivationPair | None:
        """Return the mean states of two models over some pieces (all if None).

        ``more["cka"]`` is the debiased linear CKA of the samples' states, NaN for fewer than four.

        Args:
            layer: place in the list of layers that were traced.
        """
        for name in (a, b):
            self._place(name)
        if not {a, b} <= self.states.keys():
            return None
        chosen = self._samples(pieces)
        first, second = (self.states[name][chosen, layer] for name in (a, b))
        held = [self.pieces[p] for p in self._chosen(pieces)]
        return ActivationPair(
            np.stack([first.mean(axis=0), second.mean(axis=0)]),
            samples=len(chosen),
            tokens=sum(piece.tokens for piece in held),
            more={"cka": np.array([_cka(first, second)])},
        )

    def gradients(self, a: str, b: str, pieces: Sequence[int] | None = None) -> GradientPair | None:
        """Return the Grams of two models' gradients over some pieces (all if None).

        Keys are ``encoder/union`` and so on, see `VARIANTS`.
        """
        places = self._place(a), self._place(b)
        if not self.grams or self.missing(a, b):
            return None
        chosen = self._chosen(pieces)
        of = {"own": (a,), "partner": (b,), "union": (a, b, "")}
        grams: dict[str, Gram] = {}
        samples = 0
        for variant in VARIANTS:
            own = [p for p in chosen if self.pieces[p].owner in of[variant]]
            if variant == "union":
                own = own or chosen
                samples = sum(self.pieces[p].samples for p in own)
            if own:
                for kind, gram in self.grams.items():
                    grams[f"{kind}/{variant}"] = self._pair_gram(gram, places, own)
        return GradientPair(grams, samples=samples, coverage=self.coverage)

    def _pair_gram(self, gram: Array, places: tuple[int, int], pieces: Sequence[int]) -> Gram:
        sizes = np.array([self.pieces[p].predictions for p in pieces], dtype=np.float64)
        weights = sizes / sizes.sum()
        held = gram[np.ix_(places, pieces, places, pieces)]
        two = np.einsum("p,ipjq,q->ij", weights, held, weights)
        return Gram(float(two[0, 0]), float(two[1, 1]), float(two[0, 1]))

    def _place(self, name: str) -> int:
        if name not in self.models:
            raise UnknownNameError(
                f"no model {name!r} was traced.", fix=did_you_mean(name, self.models)
            )
        return self.models.index(name)

    def _chosen(self, pieces: Sequence[int] | None) -> list[int]:
        chosen = list(range(len(self.pieces))) if pieces is None else list(pieces)
        if not chosen:
            raise MiscibleError("no piece of calibration data was chosen.")
        return chosen

    def _samples(self, pieces: Sequence[int] | None) -> npt.NDArray[np.int64]:
        ends = np.cumsum([piece.samples for piece in self.pieces])
        return np.concatenate(
            [np.arange(ends[p] - self.pieces[p].samples, ends[p]) for p in self._chosen(pieces)]
        )


def _cka(first: Array, second: Array) -> float:
    """Return the debiased linear CKA of two layers' states, [samples, width]."""
    together = np.zeros(len(first))  # one group has no interval, and its value costs least
    return float(linear_cka(first[:, None], second[:, None], together).value[0, 0])
