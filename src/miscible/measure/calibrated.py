"""What running the models over calibration data gave: parts of pairs, and what they are of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from miscible.measure.pair import ActivationPair, GradientPair, MidpointPair

if TYPE_CHECKING:
    from miscible.measure.stability import Spread

PairKey: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class RunPairs:
    """Parts of ordered pairs of models, by the models' names; of whole models or of one part."""

    activations: Mapping[PairKey, ActivationPair] = field(default_factory=dict)
    gradients: Mapping[PairKey, GradientPair] = field(default_factory=dict)
    midpoints: Mapping[PairKey, MidpointPair] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataNote:
    """One set of calibration data.

    Attributes:
        name: of the source.
        owner: model whose own data it is, empty for data that all share.
        key: a content key: equal keys give equal measurements.
        samples: sequences or images.
        tokens: of all sequences, 0 for images.
    """

    name: str
    owner: str
    key: str
    samples: int
    tokens: int


@dataclass(frozen=True)
class CalibrationNote:
    """What models were run over, and how.

    Attributes:
        data: the sets.
        key: a content key of all of them.
        seed: of the draw.
        folds: into how many parts each set was cut.
        layer: whose hidden states the metrics of whole models read.
        dtype, device: of the passes.
    """

    data: Sequence[DataNote]
    key: str
    seed: int
    folds: int
    layer: int
    dtype: str
    device: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Calibrated:
    """Everything that came of running models.

    Attributes:
        whole: of whole models.
        scopes: by layer or role.
        failures: by model that could not be run, why.
        losses: by model: mean loss in nats by set of data.
        note: what they were run over, None where the caller ran them.
        stability: how values depend on the draw, where data were cut into folds.
    """

    whole: RunPairs = field(default_factory=RunPairs)
    scopes: Mapping[str, RunPairs] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    losses: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: CalibrationNote | None = None
    stability: Sequence[Spread] = ()


def nothing_ran(models: Iterable[str], why: Exception, note: CalibrationNote | None) -> Calibrated:
    """Return what there is where no model could be run: of each why, and nothing else."""
    return Calibrated(failures=dict.fromkeys(models, str(why)), note=note)
