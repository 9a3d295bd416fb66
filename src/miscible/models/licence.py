"""What a model's card says of its licence, sorted by what the licence is known to ask.

Facts about licence texts, no legal advice: the sorting follows the names that the Hub uses
(https://huggingface.co/docs/hub/repositories-licenses) and the texts that they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from miscible.errors import SpecError
from miscible.spec import parse_yaml

CARD_NAME = "README.md"
MAX_CARD_BYTES = 512_000


class Kind(StrEnum):
    """What a licence asks of whoever publishes a merge."""

    PERMISSIVE = "permissive"
    SHARE_ALIKE = "share-alike"
    NON_COMMERCIAL = "non-commercial"
    NO_DERIVATIVES = "no-derivatives"
    OWN_TERMS = "its own terms"
    UNKNOWN = "unknown"
    ABSENT = "absent"


_PERMISSIVE = frozenset({
    "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib",
    "afl-3.0", "artistic-2.0", "bsl-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "ecl-2.0", "etalab-2.0", "ncsa",
    "odc-by", "pddl", "postgresql", "unlicense", "wtfpl",
})  # fmt: skip
_SHARE_ALIKE = frozenset({
    "agpl-3.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cdla-sharing-1.0", "epl-1.0", "epl-2.0",
    "eupl-1.1", "eupl-1.2", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0",
    "lgpl-lr", "mpl-2.0", "ms-pl", "odbl", "ofl-1.1", "osl-3.0",
})  # fmt: skip
_NON_COMMERCIAL = frozenset({
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0", "apple-amlr", "fair-noncommercial-research-license", "intel-research",
    "h-research",
})  # fmt: skip
_NO_DERIVATIVES = frozenset({"cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"})
_OWN_TERMS = frozenset({
    "apple-ascl", "bigcode-openrail-m", "bigscience-bloom-rail-1.0", "bigscience-openrail-m",
    "c-uda", "creativeml-openrail-m", "deepfloyd-if-license", "gemma",
    "grok2-community", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "open-mdw",
    "openmdw-1.0", "openrail", "openrail++", "other", "cc",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence as a card states it.

    Attributes:
        name: identifier (``apache-2.0``), or the card's own name of it; empty if absent.
        kind: what it asks.
    """

    name: str
    kind: Kind

    def __str__(self) -> str:
        return self.name or "no licence stated"


def licence_of(card: Mapping[str, Any]) -> Licence:
    """Return the licence that a card states; of several the one that asks most."""
    stated = card.get("license")
    names = [str(n) for n in (stated if isinstance(stated, list) else [stated]) if n]
    if not names:
        return Licence("", Kind.ABSENT)
    found = [_sorted(name.strip().lower()[:80], card) for name in names]
    order = [
        Kind.PERMISSIVE, Kind.SHARE_ALIKE, Kind.OWN_TERMS, Kind.UNKNOWN, Kind.NON_COMMERCIAL,
        Kind.NO_DERIVATIVES,
    ]  # fmt: skip
    return max(found, key=lambda licence: order.index(licence.kind))


def _sorted(name: str, card: Mapping[str, Any]) -> Licence:
    for kind, names in (
        (Kind.PERMISSIVE, _PERMISSIVE),
        (Kind.SHARE_ALIKE, _SHARE_ALIKE),
        (Kind.NON_COMMERCIAL, _NON_COMMERCIAL),
        (Kind.NO_DERIVATIVES, _NO_DERIVATIVES),
    ):
        if name in names:
            return Licence(name, kind)
    own = str(card.get("license_name") or "")[:80].lower()
    label = f"{name} ({own})" if name == "other" and own else name
    # Names that say so themselves, such as Qwen's "qwen-research" or Mistral's "mnpl".
    if any(word in own for word in ("non-commercial", "noncommercial", "-nc-", "research", "mnpl")):
        return Licence(label, Kind.NON_COMMERCIAL)
    return Licence(label, Kind.OWN_TERMS if name in _OWN_TERMS else Kind.UNKNOWN)


def read_card(folder: Path) -> Mapping[str, Any]:
    """Return the front matter of a folder's model card, empty if there is none to be read."""
    try:
        with (folder / CARD_NAME).open("rb") as file:
            text = file.read(MAX_CARD_BYTES).decode("utf-8", "replace")
    except OSError:
        return {}
    return front_matter(text)


def front_matter(text: str) -> Mapping[str, Any]:
    """Return what stands between the two ``---`` lines that open a card."""
    lines = text.lstrip("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    end = next((i for i, line in enumerate(lines[1:], 1) if line.strip() == "---"), None)
    if end is None:
        return {}
    try:
        value = parse_yaml("\n".join(lines[1:end]), CARD_NAME).value
    except SpecError:
        return {}  # a card that cannot be read states nothing
    return value if isinstance(value, dict) else {}
