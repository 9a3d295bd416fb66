"""Where a tensor stands in a model, told from its name alone: which layer, before, or after."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

_NUMBERED = re.compile(r"^(?P<stack>.*?(?:^|\.))(?P<index>\d+)(?P<rest>\..*)$")
_EMBEDDING = re.compile(r"embed|(^|\.)(wte|wpe)(\.|$)")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")
_INPUT_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in)\.weight$")


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor's place.

    Attributes:
        stack: name up to the layer number (``model.layers.``), None outside of all layers.
        index: layer number, None outside.
        rest: what follows the number.
        first: outside: whether it comes before the layers (an embedding).
    """

    stack: str | None = None
    index: int | None = None
    rest: str = ""
    first: bool = False


def place_of(name: str) -> Place:
    """Return the place of a tensor; the outermost number of its name counts layers."""
    match = _NUMBERED.match(name)
    if match is None:
        return Place(first=_EMBEDDING.search(name) is not None)
    return Place(match["stack"], int(match["index"]), match["rest"])


def stack_sizes(names: Iterable[str]) -> dict[str, int]:
    """Return the number of layers of each stack (an encoder-decoder has two)."""
    indices: dict[str, set[int]] = defaultdict(set)
    for name in names:
        place = place_of(name)
        if place.stack is not None and place.index is not None:
            indices[place.stack].add(place.index)
    return {stack: max(held) + 1 for stack, held in indices.items()}


def is_output_head(name: str) -> bool:
    """Return whether a tensor is the output projection that may be tied to the embedding."""
    return _HEAD.search(name) is not None


def input_embedding(names: Iterable[str]) -> str | None:
    """Return the name of the token embedding, None if there is not exactly one."""
    found = [name for name in names if _INPUT_EMBEDDING.search(name)]
    return found[0] if len(found) == 1 else None
