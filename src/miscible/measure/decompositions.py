"""The decompositions of one matrix of N models: from the cache, alone, or in the turns of all."""

from __future__ import annotations

from dataclasses import dataclass, field

from miscible.measure.changes import Change, Stored
from miscible.measure.spectrum import Spectrum, decompose, nothing
from miscible.measure.spectrum_cache import SpectrumCache
from miscible.measure.tensor_pass import TensorPass, fits


@dataclass(eq=False)
class Decompositions:
    """Those of the models that were begun, in their order.

    Args:
        origin: the base's matrix.
        count: of models at most.
        cache: None to keep none.

    Attributes:
        tall: numbers of the models whose matrices are decomposed in the turns of all.
    """

    origin: Stored
    count: int
    cache: SpectrumCache | None
    tall: list[int] = field(default_factory=list)
    _found: list[Spectrum | None] = field(default_factory=list)
    _keys: list[str] = field(default_factory=list)
    _base_digest: str = ""

    def begin(self, change: Change) -> None:
        """Take a model's matrix from the cache, decompose it, or leave it for the turns of all.

        Raises:
            FloatingPointError: if it is not finite and shows it already.
            MiscibleError: if it cannot be read.
        """
        key = self._key(change)
        found = None
        if self.cache is not None and key:
            found = self.cache.load(key, (self.origin.rows, self.origin.width))
        if found is None and not self._is_for_all(change):
            found = decompose(change)
            self._keep(key, found)
        if found is None:
            self.tall.append(len(self._found))
        self._found.append(found)
        self._keys.append(key)

    def end(self, turns: TensorPass) -> list[Spectrum]:
        """Return all decompositions; what is not finite counts as zero, and shows in the Gram."""
        later = turns.second_turn()
        for number, found in later.items():
            if number not in turns.broken:
                self._keep(self._keys[number], found)
            self._found[number] = found
        zero = nothing(self.origin.rows, self.origin.width)
        return [zero if found is None else found for found in self._found]

    def _is_for_all(self, change: Change) -> bool:
        rows, width = self.origin.rows, self.origin.width
        is_dense = change.low_rank is None and not change.is_zero
        return is_dense and rows >= width > 0 and fits(self.count, width)

    def _key(self, change: Change) -> str:
        if self.cache is None or change.is_zero or change.low_rank is not None:
            return ""
        self._base_digest = self._base_digest or self.origin.digest()
        return self.cache.key(self._base_digest, change.digest())

    def _keep(self, key: str, found: Spectrum) -> None:
        if self.cache is not None and key:
            self.cache.keep(key, found)
