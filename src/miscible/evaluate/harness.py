"""The evaluator ``lm_eval``: EleutherAI's lm-evaluation-harness in process.

Tasks, prompts, filters, metrics and aggregation are lm-eval's (https://github.com/EleutherAI/
lm-evaluation-harness); log-probabilities come from `miscible.evaluate.model`, intervals from
`miscible.evaluate.bootstrap`. Tasks are loaded once and serve every model of a sweep.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import weakref
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from lm_eval.evaluator import evaluate

from miscible.errors import DatasetError, MiscibleError
from miscible.evaluate.catalogue import Catalogue
from miscible.evaluate.contract import Evaluation, evaluator
from miscible.evaluate.model import LikelihoodLM
from miscible.evaluate.options import EvaluationOptions
from miscible.evaluate.rows import make_rows
from miscible.evaluate.surroundings import compiled_once, quiet, seeded

if TYPE_CHECKING:
    from miscible.models import LiveModel


CHARACTERS_PER_TOKEN = 4.0
SAMPLED_DOCUMENTS = 8


@evaluator("lm_eval")
class LmEvalHarness:
    """Runs lm-eval tasks on live models."""

    def __init__(self, options: EvaluationOptions) -> None:
        self.options = options
        self._lm: LikelihoodLM | None = None

    @cached_property
    def tasks(self) -> dict[str, Any]:
        """The tasks and groups, as lm-eval's `evaluate` takes them; loaded at first use.

        Raises:
            UnknownNameError: for a name that is no task, group or tag.
            DatasetError: for a task or data file that cannot be read.
        """
        with quiet(), seeded(self.options.seed), compiled_once():
            scratch = Path(tempfile.mkdtemp(prefix="miscible-"))
            weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
            return Catalogue(self.options, scratch).load()

    def prepare(self) -> None:
        """Load the tasks; see `tasks`."""
        _ = self.tasks

    def tokens(self) -> float:
        """Return about how many tokens a model reads: from the text of a few documents a task."""
        total = 0.0
        for task in self.tasks["tasks"].values():
            documents = task.eval_docs
            count = min(len(documents), self.options.limit or len(documents))
            # At random: documents often come in an order (by subject, by length).
            drawn = random.Random(0).sample(range(count), min(count, SAMPLED_DOCUMENTS))
            read = sum(_characters(task, documents[i]) for i in drawn) / max(1, len(drawn))
            examples = task.get_config("num_fewshot") or 0
            total += count * (1 + examples) * read / CHARACTERS_PER_TOKEN
        return total

    def evaluate(self, model: LiveModel) -> Evaluation:
        """Return scores and items of the weights that *model* holds now.

        Where the model gives NaN or infinite log-probabilities, items and scores are NaN and the
        scores have the flag ``nonfinite``.

        Raises:
            DatasetError: for a task or document that cannot be used.
            MiscibleError: if a chat template is asked for and the tokenizer has none.
        """
        options = self.options
        if options.apply_chat_template and not model.tokenizer.chat_template:
            raise MiscibleError("its tokenizer has no chat template.", where=model.name)
        loaded = self.tasks
        with quiet(), seeded(options.seed), compiled_once():
            lm = self._language_model(model)
            for task in loaded["tasks"].values():
                task.set_fewshot_seed(options.seed)  # else examples would go on from the last model
            lm.nonfinite.clear()
            try:
                results: dict[str, Any] = evaluate(
                    lm,
                    loaded,
                    limit=options.limit,
                    bootstrap_iters=0,
                    log_samples=True,
                    system_instruction=options.system_instruction,
                    apply_chat_template=options.apply_chat_template,
                    fewshot_as_multiturn=options.fewshot_as_multiturn,
                    confirm_run_unsafe_code=options.allow_code,
                )
            except TemplateError as error:
                raise DatasetError(f"a document does not fit its prompt: {error}.") from error

        def flags(task: str) -> list[str]:
            marks = []
            if task in lm.tasks_with_prefix:
                marks.append(f"prefix-{lm.prefix_token_id}")
                if lm.prefix_is_control_token:
                    marks.append("prefix-is-control-token")
            if task in lm.tasks_with_truncation:
                marks.append("truncated")
            return marks

        with quiet(), compiled_once():
            return make_rows(model.name, loaded, results, options, flags, lm.nonfinite)

    def _language_model(self, live: LiveModel) -> LikelihoodLM:
        held = self._lm
        if held is None or held.model is not live.model or held.tokenizer is not live.tokenizer:
            held = self._lm = LikelihoodLM(
                live,
                batch_tokens=self.options.batch_tokens,
                generation_batch=self.options.generation_batch,
                prefix_token=self.options.prefix_token,
            )
        return held


def _characters(task: Any, document: Any) -> int:
    text = str(task.doc_to_text(document))
    choices = task.doc_to_choice(document) if task.OUTPUT_TYPE == "multiple_choice" else ()
    target = "" if choices else str(task.doc_to_target(document))
    return len(text) + len(target) + sum(len(str(choice)) for choice in choices)
