"""The built-in suite: minimal pairs from our own grammar and lexicon, no download needed."""

from __future__ import annotations

from collections.abc import Iterator

from miscible.errors import UnknownNameError, did_you_mean
from miscible.probe.contract import SourceOptions, probe_source
from miscible.probe.dataset import MinimalPair, ProbeDataset
from miscible.probe.datasets.paradigm import PARADIGMS, Draw, Paradigm

DEFAULT_LANGUAGE = "en"
EVERY_LANGUAGE = "all"
DEFAULT_PAIRS = 60
"""Pairs of one paradigm unless a limit is given."""

_PATIENCE = 200
"""Draws in a row that give nothing new before a paradigm counts as exhausted."""


@probe_source("templates")
def templates(argument: str, options: SourceOptions) -> Iterator[ProbeDataset]:
    """Yield a data set for each paradigm of the language *argument* (default English).

    ``LANGUAGE/PARADIGM`` yields that paradigm alone, ``all`` those of every language. No sentence
    occurs in two pairs. A limit above what the lexicon can give yields what it gives.

    Raises:
        UnknownNameError: there is no such language or paradigm.
    """
    language, _, name = (argument or DEFAULT_LANGUAGE).partition("/")
    if argument == EVERY_LANGUAGE:
        for each in PARADIGMS:
            yield generate(each, options.limit or DEFAULT_PAIRS, options.seed)
        return
    of_language = {each.name: each for each in PARADIGMS if each.language == language}
    if not of_language:
        known = {each.language for each in PARADIGMS} | {EVERY_LANGUAGE}
        raise UnknownNameError(
            f"there are no templates for the language {language!r}.",
            fix=did_you_mean(language, known),
        )
    if name and name not in of_language:
        raise UnknownNameError(
            f"there is no template paradigm {name!r}.", fix=did_you_mean(name, of_language)
        )
    for each in [of_language[name]] if name else of_language.values():
        yield generate(each, options.limit or DEFAULT_PAIRS, options.seed)


def generate(paradigm: Paradigm, count: int, seed: int) -> ProbeDataset:
    """Return up to *count* pairs of a paradigm, in whole units (at least one).

    The pairs of a unit share a group. The first pairs are the same whatever the count.
    """
    draw = Draw(f"{paradigm.language}/{paradigm.name}/{seed}")
    pairs: list[MinimalPair] = []
    used: set[str] = set()
    idle = 0
    while idle < _PATIENCE:
        unit = paradigm.function(draw)
        sentences = [sentence for contrast in unit for sentence in contrast]
        if not used.isdisjoint(sentences) or len(set(sentences)) < len(sentences):
            idle += 1
            continue
        if pairs and len(pairs) + len(unit) > count:
            break
        idle = 0
        used.update(sentences)
        group = str(len(pairs))
        pairs += [
            MinimalPair(f"{group}-{number}", good, bad, group)
            for number, (good, bad) in enumerate(unit)
        ]
    return ProbeDataset.of_pairs(
        name=f"templates/{paradigm.language}/{paradigm.name}",
        phenomenon=paradigm.phenomenon,
        competence=paradigm.competence,
        language=paradigm.language,
        pairs=pairs,
    )
