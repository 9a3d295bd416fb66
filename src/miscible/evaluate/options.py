"""What a behaviour measurement depends on besides the model, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TypeAlias

from miscible.errors import MiscibleError
from miscible.evaluate.task_content import path_digest, task_contents
from miscible.keys import content_key

DataSource: TypeAlias = str | Mapping[str, str]
"""A file, a folder or a zip of data files; or one file for each split (``{"test": ...}``)."""


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation; every field changes the content key.

    Attributes:
        tasks: names of lm-eval tasks, groups or tags, of tasks in *include*, or of ours.
        data: local data by task, group or tag: the official task with its prompts and metrics
            untouched, but its documents read from these files (see `miscible.evaluate.data`).
        include: folders with task YAML of the user's own.
        limit: evaluate only the first so many documents of each task.
        num_fewshot: examples in the context; None for each task's own number. As in lm-eval, a
            task that is declared with 0 examples keeps 0.
        apply_chat_template: wrap prompts in the model's chat template.
        fewshot_as_multiturn: with a chat template, examples are turns of their own.
        system_instruction: system prompt.
        prefix_token: id of the token that an empty context is replaced by; None for the
            tokenizer's beginning-of-sequence token, or else its end-of-sequence token.
        batch_tokens: tokens in one forward pass of a likelihood task.
        generation_batch: prompts in one batch of a generative task.
        seed: of few-shot sampling, numpy and torch (lm-eval's own default is 1234), and of the
            bootstrap.
        resamples: bootstrap resamples behind each interval.
        confidence: coverage of the intervals.
        cluster: by task, the field of a document that dependent documents share (a passage id).
        allow_code: run tasks that execute code which the model wrote.
    """

    tasks: tuple[str, ...]
    data: Mapping[str, DataSource] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    limit: int | None = None
    num_fewshot: int | None = None
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    system_instruction: str | None = None
    prefix_token: int | None = None
    batch_tokens: int = 512
    generation_batch: int = 8
    seed: int = 1234
    resamples: int = 1000
    confidence: float = 0.95
    cluster: Mapping[str, str] = field(default_factory=dict)
    allow_code: bool = False

    def __post_init__(self) -> None:
        if not self.tasks:
            raise MiscibleError("there is nothing to evaluate.", fix="Name at least one task.")
        for name in ("limit", "batch_tokens", "generation_batch", "resamples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise MiscibleError(f"the option {name!r} must be at least 1. Got {value}.")
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise MiscibleError(
                f"the option 'num_fewshot' must be 0 or more. Got {self.num_fewshot}."
            )
        if not 0 < self.confidence < 1:
            raise MiscibleError(
                f"the option 'confidence' must lie between 0 and 1. Got {self.confidence}."
            )

    def key(self) -> str:
        """Return the content key of these options; files count by their bytes, not their paths.

        Of the included folders only what the tasks depend on counts (see
        `miscible.evaluate.task_content`). lm-eval's own tasks are its version's: that is not here.

        Raises:
            DatasetError: if a data file or an included folder does not exist, or its YAML cannot
                be read.
        """
        parts: dict[str, object] = {item.name: getattr(self, item.name) for item in fields(self)}
        parts["data"] = {
            task: {split: path_digest(path) for split, path in source.items()}
            if isinstance(source, Mapping)
            else path_digest(source)
            for task, source in self.data.items()
        }
        parts["include"] = task_contents(self.tasks, self.include)
        return content_key(**parts)
