"""Probing one model: rows for every data set and layer, without and with probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from miscible.probe.contract import ProbeDataset
from miscible.probe.encode import Encoding, encode
from miscible.probe.plan import Layout, ProbePlan
from miscible.probe.rows import DatasetRows
from miscible.probe.tokens import EncodingPlan
from miscible.progress import task
from miscible.records import FailureRow, ItemRow, ScoreRow

if TYPE_CHECKING:
    from miscible.models.live import LiveModel


@dataclass(frozen=True)
class Probing:
    """What probing one model gave.

    Attributes:
        scores: ``probe_accuracy`` and ``probe_macro_f1`` for each data set and layer,
            ``preference`` and ``preference_margin`` for each data set.
        items: one row a pair for each of these, except for macro-F1, which is no mean over items.
        failures: data sets and layers whose activations are not finite.
    """

    scores: tuple[ScoreRow, ...]
    items: tuple[ItemRow, ...]
    failures: tuple[FailureRow, ...]


def probe_model(
    live: LiveModel,
    plan: ProbePlan,
    *,
    layers: Sequence[int] | str = "all",
    control: bool = False,
    name: str | None = None,
) -> Probing:
    """Probe the weights that *live* holds now.

    Args:
        live: model with the tokenizer of *plan*.
        plan: data sets, folds and tokens.
        layers: "all", or indices (see `miscible.records.EMBEDDING_LAYER`; -1 is the last).
        control: also fit each probe on control labels (a random orientation of each pair, Hewitt
            and Liang, arXiv 1909.03368) and report the difference as selectivity.
        name: of the model in the rows; by default the checkpoint's.

    Raises:
        IncompatibleModelsError: another tokenizer than the plan's, or an architecture whose blocks
            cannot be found.
        MiscibleError: a layer that the model does not have.
    """
    model = live.name if name is None else name
    found: list[DatasetRows] = []
    for wave in plan.waves:
        encoding = encode(live, wave.encoding, layers)
        with task("fit probes", len(wave.layouts)) as advance:
            for layout in wave.layouts:
                found.append(_dataset_rows(model, layout, wave.encoding, encoding, control))
                advance(1)
    return _probing(found)


def plan_encoding(
    live: LiveModel, dataset: ProbeDataset, batch_tokens: int | None = None
) -> EncodingPlan:
    """Tokenise one data set for `probe_dataset`; see `EncodingPlan.build`."""
    return EncodingPlan.build(
        dataset.texts, live.tokenizer, live.model.config, batch_tokens=batch_tokens
    )


def probe_dataset(
    live: LiveModel,
    dataset: ProbeDataset,
    texts: EncodingPlan,
    *,
    layers: Sequence[int] | str = "all",
    seed: int = 0,
    control: bool = False,
) -> Probing:
    """Probe one data set: `probe_model` for a study, which stores each data set as it is done.

    Args:
        live: model with the tokenizer of *texts*.
        dataset: the pairs.
        texts: from `plan_encoding`, kept while weights are swapped.
        layers, control: see `probe_model`.
        seed: of folds, control labels and resamples, together with the data set's content.
    """
    layout = Layout.build(dataset, seed=seed)
    encoding = encode(live, texts, layers)
    return _probing([_dataset_rows(live.name, layout, texts, encoding, control)])


def _dataset_rows(
    model: str, layout: Layout, texts: EncodingPlan, encoding: Encoding, control: bool
) -> DatasetRows:
    good = texts.indices(pair.good for pair in layout.dataset.pairs)
    bad = texts.indices(pair.bad for pair in layout.dataset.pairs)
    counted = {
        "excluded": layout.dataset.excluded,
        "truncated": int((texts.truncated[good] | texts.truncated[bad]).sum()),
    }
    marks = tuple(f"{mark}:{count}" for mark, count in counted.items() if count)
    rows = DatasetRows(model, layout, encoding, good, bad, marks)
    rows.add_probes(control)
    rows.add_preference()
    return rows


def _probing(found: Sequence[DatasetRows]) -> Probing:
    return Probing(
        tuple(row for rows in found for row in rows.scores),
        tuple(row for rows in found for row in rows.items),
        tuple(row for rows in found for row in rows.failures),
    )
