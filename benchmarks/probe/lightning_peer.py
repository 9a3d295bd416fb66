"""The reference protocol as a PyTorch Lightning loop, for one data set and one layer.

    python lightning_peer.py ARRAYS.npz

Written from the protocol's description (Holmes, arXiv 2404.18923, and specs of its probes): dropout
.2 and one linear layer, Adam at 1e-3, batches of 16, at most 20 epochs, the rate rising over 10 %
of the steps and then falling to 0, an early stop after 5 epochs without a lower development loss,
the weights of the lowest tested, 5 seeds. It is run by ``protocols.py`` in a virtual
environment that has Lightning, and does nothing that the protocol does not ask for: no logger, no
checkpoint files (the best weights are kept in memory), no progress bar, no summary, one thread.

Prints JSON: the CPU seconds of the five fits with their tests, those of the whole process until
then (imports and all), and the score of each seed.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from copy import deepcopy
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import Metric
from torchmetrics.classification import MulticlassF1Score
from torchmetrics.regression import PearsonCorrCoef

SEEDS = (0, 1, 2, 3, 4)
EPOCHS, PATIENCE, BATCH, RATE, DROPOUT, WARM_UP = 20, 5, 16, 1e-3, 0.2, 0.1


class Probe(lightning.LightningModule):
    """A linear probe; of one output it is a regression."""

    def __init__(self, width: int, classes: int, steps: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(width, classes))
        self.classes, self.steps = classes, steps
        self.score: Metric = (
            PearsonCorrCoef() if classes == 1 else MulticlassF1Score(classes, average="macro")
        )

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """Return the loss of a batch."""
        return self._loss(batch)

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        """Tell the early stop the loss."""
        self.log("loss", self._loss(batch), batch_size=len(batch[0]))

    def test_step(self, batch: list[torch.Tensor], _: int) -> None:
        """Add a batch to the score."""
        output = self.layers(batch[0])
        self.score.update(output.squeeze(1) if self.classes == 1 else output, batch[1])

    def configure_optimizers(self) -> dict[str, Any]:
        """Return Adam with the schedule, a step a batch."""
        optimiser = torch.optim.Adam(self.parameters(), lr=RATE)
        warm = max(1, round(WARM_UP * self.steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser,
            lambda step: min((step + 1) / warm, (self.steps - step) / max(1, self.steps - warm)),
        )
        return {
            "optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }  # fmt: skip

    def _loss(self, batch: list[torch.Tensor]) -> torch.Tensor:
        output = self.layers(batch[0])
        if self.classes == 1:
            return mse_loss(output.squeeze(1), batch[1])
        # The softmax of a softmax is the reference's.
        return cross_entropy(output.softmax(dim=1), batch[1])


class BestWeights(Callback):
    """Keeps the weights of the lowest development loss."""

    def __init__(self) -> None:
        self.least, self.weights = float("inf"), {}

    def on_validation_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Copy the weights if they are the best so far."""
        loss = float(trainer.callback_metrics["loss"])
        if loss < self.least and not trainer.sanity_checking:
            self.least, self.weights = loss, deepcopy(module.layers.state_dict())


def fit(parts: dict[str, TensorDataset], width: int, classes: int, seed: int) -> float:
    """Return the test score of one seed."""
    lightning.seed_everything(seed, verbose=False)
    train = DataLoader(parts["train"], BATCH, shuffle=True)
    dev, test = (DataLoader(parts[name], BATCH) for name in ("dev", "test"))
    probe, best = Probe(width, classes, EPOCHS * len(train)), BestWeights()
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=EPOCHS, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[best, EarlyStopping("loss", patience=PATIENCE)],
    )  # fmt: skip
    trainer.fit(probe, train, dev)
    probe.layers.load_state_dict(best.weights)
    trainer.test(probe, test, verbose=False)
    return float(probe.score.compute())


def main() -> None:
    """Fit every seed on the arrays of a file."""
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")  # about workers of data loaders, which would cost more here
    with np.load(sys.argv[1]) as file:
        held = {name: torch.from_numpy(file[name]) for name in ("features", "labels")}
        classes = int(file["classes"])
        parts = {
            name: TensorDataset(held["features"][file[name]], held["labels"][file[name]])
            for name in ("train", "dev", "test")
        }
    begin = time.process_time()
    scores = [fit(parts, held["features"].shape[1], classes, seed) for seed in SEEDS]
    end = time.process_time()
    print(json.dumps({"fits": end - begin, "process": end, "scores": scores}))


if __name__ == "__main__":
    main()
