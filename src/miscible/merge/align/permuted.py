"""A model with the units of its hidden layers in another order, which computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from miscible.errors import MiscibleError
from miscible.keys import content_key
from miscible.merge.align.permutation_spec import PermutationSpec
from miscible.merge.align.units import infer_spec
from miscible.merge.align.weight_matching import match_weights, permuted
from miscible.models.checkpoint import Checkpoint, FileState
from miscible.models.delta import LowRank
from miscible.models.formats.safetensors import Extent, TensorInfo

if TYPE_CHECKING:
    import numpy as np
    import torch

VERSION = 1
"""Part of the fingerprint; raised when the same models would be aligned otherwise."""


def aligned_to(
    model: Checkpoint, target: Checkpoint, spec: PermutationSpec | None = None
) -> PermutedCheckpoint:
    """Return *model* with its units permuted to match *target* (Git Re-Basin, 2209.04836).

    Args:
        model: what is permuted.
        target: what it is matched to.
        spec: the units; told from names, shapes and config if None (see `infer_spec`).

    Raises:
        MiscibleError: if no unit is known that could be permuted.
        IncompatibleModelsError: if the models are not of one architecture.
    """
    spec = infer_spec(model.tensors, model.config) if spec is None else spec
    if not spec.groups:
        raise MiscibleError(
            "there are no units that could be permuted.",
            where=model.name,
            fix="Its architecture is not known well enough; merge it without alignment.",
        )
    return PermutedCheckpoint(model, target, spec)


class PermutedCheckpoint:
    """A checkpoint aligned to another; use `aligned_to`.

    Permutations are solved for when a tensor that they touch is first read, the units that depend
    on each other at once (of a transformer: those of one module), and remembered.

    Raises:
        IncompatibleModelsError: if one of the models lacks the tensors of the spec.
    """

    def __init__(self, model: Checkpoint, target: Checkpoint, spec: PermutationSpec) -> None:
        spec.check(model.tensors, model.name)
        spec.check(target.tensors, target.name)
        self.model, self.target, self.spec = model, target, spec
        self.name = model.name
        self._found: dict[str, np.ndarray] = {}
        self._lock = Lock()

    @property
    def folder(self) -> Path:
        return self.model.folder

    @property
    def config(self) -> Mapping[str, Any]:
        return self.model.config

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self.model.tensors

    @property
    def files(self) -> Mapping[Path, FileState]:
        return {**self.model.files, **self.target.files}

    @cached_property
    def fingerprint(self) -> str:
        return content_key(
            align=VERSION,
            model=self.model.fingerprint,
            target=self.target.fingerprint,
            groups=[asdict(group) for group in self.spec.groups],
        )

    def permutation(self, group: str) -> np.ndarray:
        """Return the permutation of a group; see `miscible.merge.align.weight_matching.Matching`.

        Raises:
            MiscibleError: if a tensor that it depends on holds NaN or infinity.
        """
        with self._lock:
            if group not in self._found:
                import torch

                matching = match_weights(
                    self.spec.components[group],
                    lambda name: self.target.read(name, torch.float32),
                    lambda name: self.model.read(name, torch.float32),
                )
                self._found |= matching.permutations
            return self._found[group]

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return one tensor, permuted; see `miscible.models.checkpoint.Checkpoint.read`."""
        along = self.spec.of(name)
        found = {group.name: self.permutation(group.name) for group, _ in along}
        return permuted(self.model.read(name, dtype), along, found)

    def low_rank_delta(self, name: str, base: Checkpoint) -> LowRank | None:
        """Return the model's factors of a tensor that is never permuted."""
        return None if self.spec.of(name) else self.model.low_rank_delta(name, base)

    def extent(self, name: str) -> tuple[Path, Extent] | None:
        """Return where a tensor that is never permuted lies."""
        return None if self.spec.of(name) else self.model.extent(name)
