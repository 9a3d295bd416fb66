"""The process in which lm-eval runs: no log lines or bars of others, no seeds left behind."""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial

import datasets
import lm_eval.api.task
import lm_eval.utils
import numpy as np
import torch

_LOGGERS = ("lm_eval", "datasets", "transformers", "huggingface_hub", "fsspec")


@contextmanager
def quiet() -> Iterator[None]:
    """Show nothing below errors inside, and no progress bars but our own."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled()
    tqdm = lm_eval.api.task.tqdm
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    # Building requests draws a bar that no option of lm-eval turns off.
    lm_eval.api.task.tqdm = partial(tqdm, disable=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        lm_eval.api.task.tqdm = tqdm
        if not bars:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def compiled_once() -> Iterator[None]:
    """Compile each prompt template once; lm-eval does so anew for every field of every document."""
    environment = lm_eval.utils.env
    environment.from_string = lru_cache(maxsize=512)(environment.from_string)
    try:
        yield
    finally:
        del environment.from_string  # the method of the class shows again


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed everything global as ``lm_eval --seed 0,SEED,SEED,SEED`` does; undo it afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices):
        random.seed(0)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
