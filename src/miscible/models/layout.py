"""Where a tensor stands in a model, told from its name alone: layer, depth, and role.

No table of architectures: names of unknown ones are read by the same rules. The outermost number
of a name counts layers (``model.layers.3.mlp.experts.17.w1.weight`` is of layer 3) unless it counts
parts of something that is not a stack of layers (``classifier.1.weight``). Networks of stages nest
a second number (``layers.0.blocks.1``, ``down_blocks.0.attentions.1``, ``layer1.0``); depth then
runs over the blocks of all stages. A `Layout` takes the user's word where the rules fail.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from miscible.errors import RecipeError, did_you_mean
from miscible.models.roles import ROLES, is_head_part, is_input_part, role_of_parts

_MOST_DIGITS = 5
"""No model has more layers; a longer number is an identifier or an attack."""
_REMEMBERED = 1 << 18
_GLUED = re.compile(r"(?P<word>(?:layer|stage|block|res)_?)(?P<index>[0-9]{1,2})")
_NOT_A_STACK = re.compile(
    r"experts?$|embed|emb$|norm$|classifier|(^|_)heads?$|proj(ection|ector)?$|"
    r"^(attentions|resnets)$"
)
_WITHIN_A_STAGE = frozenset({"blocks", "block", "layers", "attentions", "resnets"})
_TIED_HEAD = re.compile(
    r"(^|\.)(lm_head|embed_out|output|lm_head\.decoder|predictions\.decoder|vocab_projector)"
    r"\.weight$|^(proj_out|decoder)\.weight$"
)
_INPUT_EMBEDDING = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings?|embed_in|tok_embeddings|token_embeddings?|"
    r"(backbone|rwkv|word_embedding|embedding)\.embeddings?|embeddings)\.weight$"
)
_SHARED = re.compile(r"(^|\.)shared\.weight$")


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor's place.

    Attributes:
        stack: name up to the layer number (``model.layers.``), None outside of all layers.
        index: layer number, None outside.
        rest: what follows the number.
        first: outside: whether it comes before the layers (an embedding, a stem).
        block: in a network of stages: number of the block within its stage.
        role: ``embedding``, ``attention``, ``mlp``, ``norm``, ``head`` or ``other``.
    """

    stack: str | None = None
    index: int | None = None
    rest: str = ""
    first: bool = False
    block: int | None = None
    role: str = "other"


class StackSizes(dict[str, int]):
    """Number of layers of each stack; of stages, where layers nest blocks.

    Attributes:
        blocks: by stack of stages: (stage, block) of every block, sorted.
    """

    def __init__(self, sizes: Mapping[str, int], blocks: Mapping[str, list[tuple[int, int]]]):
        super().__init__(sizes)
        self.blocks = blocks


class Layout:
    """How names are read, with what a user says about an unusual architecture.

    Args:
        layers: one template or several of the name around a layer number, such as
            ``blocks.{layer}.``; matched literally, from the start of any part of the name. Where
            there are templates, names that fit none are outside of all layers.
        roles: role by part of a name; the first that is contained in the name decides.

    Raises:
        RecipeError: if a template has no ``{layer}``, or a role is unknown.
    """

    def __init__(
        self, layers: str | Iterable[str] = (), roles: Mapping[str, str] | None = None
    ) -> None:
        templates = [layers] if isinstance(layers, str) else layers
        self._templates = [_compiled(template) for template in templates]
        self._roles = dict(roles or {})
        self._places: dict[str, Place] = {}
        for part, role in self._roles.items():
            if role not in ROLES:
                raise RecipeError(
                    f"{role!r} is not a role (for names with {part!r}).",
                    where="layout",
                    fix=did_you_mean(role, ROLES),
                )

    def place_of(self, name: str) -> Place:
        """Return the place of a tensor."""
        place = self._places.get(name)
        if place is None:
            if len(self._places) >= _REMEMBERED:
                self._places.clear()
            place = self._places[name] = self._place_of(name)
        return place

    def _place_of(self, name: str) -> Place:
        found = self._by_template(name) if self._templates else _by_rule(name)
        if found is None:
            first = not _TIED_HEAD.search(name) and is_input_part(name)
            return Place(first=first, role=self._role(name, within=False))
        stack, index, rest, block = found
        return Place(stack, index, rest, False, block, self._role(name, within=True))

    def role_of(self, name: str) -> str:
        """Return the role of a tensor, one of `miscible.models.roles.ROLES`."""
        return self.place_of(name).role

    def stack_sizes(self, names: Iterable[str]) -> StackSizes:
        """Return the number of layers of each stack (an encoder-decoder has two)."""
        sizes: dict[str, int] = {}
        nested: dict[str, set[tuple[int, int]]] = defaultdict(set)
        for name in names:
            place = self.place_of(name)
            if place.stack is None or place.index is None:
                continue
            sizes[place.stack] = max(sizes.get(place.stack, 0), place.index + 1)
            if place.block is not None:
                nested[place.stack].add((place.index, place.block))
        return StackSizes(sizes, {stack: sorted(held) for stack, held in nested.items()})

    def _role(self, name: str, *, within: bool) -> str:
        for part, role in self._roles.items():
            if part in name:
                return role
        if not within and _TIED_HEAD.search(name):
            return "head"
        return _role_by_rule(tuple(p for p in name.split(".") if not _is_number(p)), within)

    def _by_template(self, name: str) -> tuple[str, int, str, int | None] | None:
        for template in self._templates:
            match = template.search(name)
            if match is not None:
                start, end = match.span("layer")
                return name[:start], int(match["layer"]), name[end:], None
        return None


DEFAULT = Layout()


def place_of(name: str) -> Place:
    """Return the place of a tensor by the rules of this module."""
    return DEFAULT.place_of(name)


def role_of(name: str) -> str:
    """Return the role of a tensor, one of `miscible.models.roles.ROLES`."""
    return DEFAULT.role_of(name)


def stack_sizes(names: Iterable[str]) -> StackSizes:
    """Return the number of layers of each stack (an encoder-decoder has two)."""
    return DEFAULT.stack_sizes(names)


def depth_of(place: Place, sizes: Mapping[str, int]) -> float:
    """Return how deep a tensor lies in its stack: 0 in the first layer and before, 1 in the last.

    A tensor of a stage outside its blocks (a downsampling) is as deep as the stage's last block.

    Args:
        place: the tensor's place.
        sizes: of `stack_sizes`; with a plain mapping, stages count as layers.
    """
    if place.stack is None or place.index is None:
        return 0.0 if place.first else 1.0
    blocks = sizes.blocks.get(place.stack) if isinstance(sizes, StackSizes) else None
    if blocks:
        inner = (1 << 62) if place.block is None else place.block
        rank, count = max(bisect_right(blocks, (place.index, inner)) - 1, 0), len(blocks)
    else:
        rank, count = place.index, sizes.get(place.stack, 0)
    return rank / (count - 1) if count > 1 else 1.0


def is_output_head(name: str) -> bool:
    """Return whether a tensor is the output projection that may be tied to the embedding."""
    return _TIED_HEAD.search(name) is not None and place_of(name).index is None


def input_embedding(names: Iterable[str]) -> str | None:
    """Return the name of the token embedding, None if there is not exactly one.

    The embedding that an encoder and a decoder share goes before copies of it.
    """
    outside = [name for name in names if name.endswith(".weight") and place_of(name).index is None]
    for pattern in (_SHARED, _INPUT_EMBEDDING):
        found = [name for name in outside if pattern.search(name)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


@lru_cache(maxsize=4096)
def _role_by_rule(parts: tuple[str, ...], within: bool) -> str:
    return role_of_parts(parts, within_layers=within)


def _by_rule(name: str) -> tuple[str, int, str, int | None] | None:
    parts = name.split(".")
    position = 0  # of the part's first character
    word = ""  # what a number counts: the nearest word before it
    for i, part in enumerate(parts[:-1]):
        glued = _GLUED.fullmatch(part) if _is_number(parts[i + 1]) and i + 2 < len(parts) else None
        if glued is not None:
            end = position + len(part)
            start = end - len(glued["index"])
            return name[:start], int(glued["index"]), name[end:], int(parts[i + 1])
        if not _is_number(part):
            word = part
        elif not _counts_parts(word):
            end = position + len(part)
            return name[:position], int(part), name[end:], _block(parts[i + 1 : -1])
        position += len(part) + 1
    return None


def _counts_parts(word: str) -> bool:
    return _NOT_A_STACK.search(word.lower()) is not None or is_head_part(word)


def _block(behind: list[str]) -> int | None:
    if behind and _is_number(behind[0]):
        return int(behind[0])
    if len(behind) > 1 and behind[0] in _WITHIN_A_STAGE and _is_number(behind[1]):
        return int(behind[1])
    return None


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS


def _compiled(template: str) -> re.Pattern[str]:
    # A template and not a regular expression: one from a stranger could run for ever.
    before, found, behind = template.partition("{layer}")
    if not found or "{" in before + behind:
        raise RecipeError(
            f"{template!r} is not a template of layer names.",
            where="layout",
            fix="Write {layer} in place of the number, as in 'blocks.{layer}.'.",
        )
    digits = f"(?P<layer>[0-9]{{1,{_MOST_DIGITS}}})(?![0-9])"
    return re.compile(rf"(?:^|(?<=\.)){re.escape(before)}{digits}{re.escape(behind)}")
