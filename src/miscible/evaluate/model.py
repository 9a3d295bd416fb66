"""The bridge between lm-eval's requests and our scoring: an lm-eval model over a `LiveModel`."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from miscible.errors import DatasetError
from miscible.evaluate.packing import Query
from miscible.evaluate.scoring import Answer, can_pack, score_packed, score_padded
from miscible.progress import task

if TYPE_CHECKING:
    from miscible.models import LiveModel

_CONTROL_TOKEN = re.compile(r"im_start|im_end|(start|end)_of_turn|header|user|assistant|system")


class LikelihoodLM(HFLM):  # type: ignore[misc]
    """lm-eval's own Hugging Face model with its likelihoods computed by us.

    Tokenisation, chat templates and generation are lm-eval's. Log-probabilities are float32
    whatever the dtype of the weights. Nothing is remembered from one call to the next, so the
    weights may be swapped between calls.

    Args:
        live: model and tokenizer.
        batch_tokens: tokens in one forward pass.
        generation_batch: prompts in one batch of generation.
        prefix_token: see `EvaluationOptions.prefix_token`.

    Attributes:
        tasks_with_prefix: tasks of which some request began with the prefix token.
        tasks_with_truncation: tasks of which some context was cut off on the left.
        nonfinite: by task, the documents on which the model gave NaN or infinite log-probabilities.
    """

    def __init__(
        self,
        live: LiveModel,
        *,
        batch_tokens: int = 512,
        generation_batch: int = 8,
        prefix_token: int | None = None,
    ) -> None:
        super().__init__(
            pretrained=live.model,
            tokenizer=live.tokenizer,
            batch_size=generation_batch,
            prefix_token_id=prefix_token,
        )
        self.batch_tokens = batch_tokens
        self._task_names: list[str] = []
        self._score = score_packed if can_pack(live.model) else score_padded
        self.tasks_with_prefix: set[str] = set()
        self.tasks_with_truncation: set[str] = set()
        self.nonfinite: defaultdict[str, set[int]] = defaultdict(set)

    @property
    def prefix_is_control_token(self) -> bool:
        """Whether the prefix token is one that delimits chat turns, as some GGUF files say."""
        return bool(_CONTROL_TOKEN.search(self.tokenizer.decode([self.prefix_token_id])))

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        self.tasks_with_prefix |= {each.task_name for each in requests if each.args[0] == ""}
        self._task_names = [each.task_name for each in requests]
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        self._note_nonfinite(requests, [logprob for logprob, _ in answers])
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        self.tasks_with_prefix |= {each.task_name for each in requests}
        self._task_names = []  # windows are cut to fit: none is truncated
        windows = [
            [
                make_disjoint_window(window)
                for window in get_rolling_token_windows(
                    self.tok_encode(each.args[0]), self.prefix_token_id, self.max_length, 1
                )
            ]
            for each in requests
        ]
        answers = iter(
            self._loglikelihood_tokens([(None, *pair) for document in windows for pair in document])
        )
        sums = [sum(next(answers)[0] for _ in document) for document in windows]
        self._note_nonfinite(requests, sums)
        return sums

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        with task("generating", float(len(requests))) as advance, self._watched() as finite:
            texts: list[str] = super().generate_until(requests, disable_tqdm=True)
            advance(len(requests))
        if not all(finite):
            for each in requests:  # once more, one by one, to learn which of them it was
                with self._watched() as finite:
                    super().generate_until([each], disable_tqdm=True)
                if not all(finite):
                    self.nonfinite[each.task_name].add(each.doc_id)
        return texts

    @contextmanager
    def _watched(self) -> Iterator[list[torch.Tensor]]:
        """Collect, for each forward pass, whether the logits of all next tokens are numbers."""
        finite: list[torch.Tensor] = []

        def look(module: torch.nn.Module, args: Any, output: Any) -> None:
            # Not more: -inf is how a model may rule out a token.
            finite.append(output.logits[:, -1].logsumexp(dim=-1).isfinite().all())

        hook = self.model.register_forward_hook(look)
        try:
            yield finite
        finally:
            hook.remove()

    def _note_nonfinite(self, requests: Sequence[Any], logprobs: Sequence[float]) -> None:
        for each, logprob in zip(requests, logprobs, strict=True):
            if not math.isfinite(logprob):
                self.nonfinite[each.task_name].add(each.doc_id)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = True,
        **_: Any,
    ) -> list[Answer]:
        room = self.max_length + 1
        for name, (_, context, continuation) in zip(self._task_names, requests, strict=False):
            if len(context) + len(continuation) > room:
                self.tasks_with_truncation.add(name)
        queries = [self._query(context, continuation) for _, context, continuation in requests]
        distinct = list(dict.fromkeys(queries))
        scored = self._score(self.model, distinct, self.batch_tokens)
        answer: dict[Query, Answer] = dict(zip(distinct, scored, strict=True))
        # What overflows in one continuation is NaN in all of its pack: those are scored alone.
        lost = [query for query in distinct if not math.isfinite(answer[query].logprob)]
        if lost:
            answer.update(zip(lost, score_padded(self.model, lost, budget=1), strict=True))
        return [answer[query] for query in queries]

    def _query(self, context: list[int], continuation: list[int]) -> Query:
        if not 0 < len(continuation) <= self.max_length:
            raise DatasetError(
                f"a continuation has {len(continuation)} tokens; the model takes 1 to "
                f"{self.max_length}."
            )
        # The last token is only ever predicted; what does not fit is cut off on the left.
        tokens = [*context, *continuation][-(self.max_length + 1) : -1]
        return Query(tuple(tokens), tuple(continuation))
