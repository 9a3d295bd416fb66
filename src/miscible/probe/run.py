"""Probing one model: rows for every data set and layer, without and with probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from miscible.probe.encoding.cache import StateCache
from miscible.probe.encoding.encode import Encoding, encode
from miscible.probe.encoding.tokens import EncodingPlan, Read
from miscible.probe.layout.pairs import PairLayout
from miscible.probe.layout.tasks import TaskLayout
from miscible.probe.plan import Layout, ProbePlan, Wave, read_of
from miscible.probe.scoring.pair_rows import PairRows
from miscible.probe.scoring.predictions import ProbeKind
from miscible.probe.scoring.rows import Rows
from miscible.probe.scoring.task_rows import TaskRows
from miscible.progress import task
from miscible.records import FailureRow, ItemRow, ScoreRow

if TYPE_CHECKING:
    from miscible.models.live import LiveModel

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ProbeOptions:
    """What is fitted.

    Attributes:
        layers: "all", or indices (see `miscible.records.EMBEDDING_LAYER`; -1 is the last).
        control: also fit each probe on control labels (Hewitt and Liang, arXiv 1909.03368) and
            report the difference as selectivity.
        words: also score a probe on bags of words.
        probe: of classifications: linear, or one that reads what is not linear (``mlp``, ``knn``).
        code_lengths: also report the online code of classifications, in bits.
        reference: report Holmes' own probe instead, for comparison with published numbers.
    """

    layers: Sequence[int] | str = "all"
    control: bool = False
    words: bool = False
    probe: ProbeKind = "linear"
    code_lengths: bool = False
    reference: bool = False

    @property
    def as_tasks(self) -> bool:
        """Whether minimal pairs are treated like any other task."""
        return self.probe != "linear" or self.reference or self.code_lengths


@dataclass(frozen=True)
class Probing:
    """What probing one model gave.

    Attributes:
        scores: for each data set and layer ``probe_accuracy`` and ``probe_macro_f1``, or
            ``probe_pearson``; for each data set of minimal pairs ``preference`` and
            ``preference_margin``.
        items: one row an item (a pair, an example) for each of these, except for macro-F1, which is
            no mean over items.
        failures: data sets and layers whose activations are not finite.
    """

    scores: tuple[ScoreRow, ...]
    items: tuple[ItemRow, ...]
    failures: tuple[FailureRow, ...]


def probe_model(
    live: LiveModel,
    plan: ProbePlan,
    options: ProbeOptions | None = None,
    *,
    name: str | None = None,
    cache: StateCache | None = None,
) -> Probing:
    """Probe the weights that *live* holds now.

    Args:
        live: model with the tokenizer of *plan*.
        plan: data sets, folds and tokens.
        options: what is fitted.
        name: of the model in the rows; by default the checkpoint's.
        cache: states that were computed before, and to which new ones are added.

    Raises:
        IncompatibleModelsError: another tokenizer than the plan's, or an architecture whose blocks
            cannot be found.
        MiscibleError: a layer that the model does not have.
    """
    options = options or ProbeOptions()
    found: list[Rows] = []
    for wave in plan.waves:
        encoding = encode(live, wave.encoding, options.layers, cache)
        found += probe_wave(live, wave, encoding, options, name)
    probing = probing_of(found)
    refused = [item for wave in plan.waves for item in wave.refused.items()]
    failures = [FailureRow(name or live.name, f"probe {held}", why) for held, why in refused]
    return replace(probing, failures=(*failures, *probing.failures))


def probe_wave(
    live: LiveModel, wave: Wave, encoding: Encoding, options: ProbeOptions, name: str | None = None
) -> list[Rows]:
    """Return the rows of the data sets of one wave, from what the model makes of it."""
    model = live.name if name is None else name
    found: list[Rows] = []
    with task("fit probes", len(wave.layouts)) as advance:
        for layout in wave.layouts:
            found.append(layout_rows(model, layout, wave.encoding, encoding, options))
            advance(1)
    return found


def probing_of(found: Sequence[Rows]) -> Probing:
    """Join the rows of several data sets."""
    return Probing(
        tuple(row for rows in found for row in rows.scores),
        tuple(row for rows in found for row in rows.items),
        tuple(row for rows in found for row in rows.failures),
    )


def layout_rows(
    model: str, layout: Layout, texts: EncodingPlan, encoding: Encoding, options: ProbeOptions
) -> Rows:
    """Return the rows of one data set, from what a model makes of its texts."""
    counted = dict(layout.dataset.excluded)
    rows: PairRows | TaskRows
    if isinstance(layout, PairLayout):
        pairs = layout.dataset.pairs
        good, bad = (
            texts.indices(getattr(pair, which) for pair in pairs) for which in ("good", "bad")
        )
        counted["truncated"] = int((texts.truncated[good] | texts.truncated[bad]).sum())
        good_states, bad_states = (
            texts.rows(Read(getattr(pair, which)) for pair in pairs) for which in ("good", "bad")
        )
        rows = PairRows(
            model, layout, encoding, good, bad, good_states, bad_states, _marks(counted)
        )
    else:
        counted["beyond_context"] = len(layout.dataset.examples) - len(layout.kept)
        rows = TaskRows(model, layout, encoding, _reads(layout, texts), _marks(counted))
    if isinstance(rows, PairRows):
        rows.add_probes(options.control)
        rows.add_preference()
    elif options.reference:
        rows.add_reference_probes()
        return rows.rows
    else:
        rows.add_probes(options.control, options.probe)
        if options.code_lengths:
            rows.add_code_lengths(options.control)
    if options.words:
        rows.add_words()
    return rows.rows


def _reads(layout: TaskLayout, texts: EncodingPlan) -> list[list[Indices]]:
    known = layout.dataset.texts
    return [
        [texts.rows(read_of(span, known) for span in part) for part in example.inputs]
        for example in layout.examples
    ]


def _marks(counted: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{mark}:{count}" for mark, count in counted.items() if count)
