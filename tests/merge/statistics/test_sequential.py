"""RegMean++: layer by layer on merged layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from miscible.errors import IncompatibleModelsError
from miscible.merge.contract import METHODS, Context, Site
from miscible.merge.spaces import Weights
from miscible.merge.statistics.collect import collect_gram
from miscible.merge.statistics.sequential import collect_sequential
from references import statistics as reference

VALUES = {"weight": (1.0, 1.0), "reduce_non_diagonal_ratio": 0.9, "eps": 0.0}


def regmean(
    name: str, tensors: Sequence[torch.Tensor], grams: Sequence[torch.Tensor | None]
) -> torch.Tensor:
    context = Context(Site(name), statistics=grams)
    return METHODS.get("regmean")(Weights(tensors), VALUES, context).tensor


def readers_of(models: Sequence[nn.Module]) -> list[Callable[[str], torch.Tensor]]:
    return [
        {name: tensor.clone() for name, tensor in model.state_dict().items()}.__getitem__
        for model in models
    ]


def test_a_network_is_merged_as_the_paper_says() -> None:
    torch.manual_seed(1)
    networks = [
        nn.Sequential(
            nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 5, bias=False), nn.ReLU(),
            nn.Linear(5, 3, bias=False),
        )
        for _ in range(2)
    ]  # fmt: skip
    inputs = [torch.randn(30, 4), torch.randn(20, 4) * torch.tensor([1.0, 3.0, 0.3, 1.0])]
    readers = readers_of(networks)
    shell = deepcopy(networks[0])
    grams = collect_sequential(shell, readers, [[x[:13], x[13:]] for x in inputs], regmean)
    wanted = reference.regmean_plus_plus(
        [[n[i].weight.detach().double().numpy() for i in (0, 2, 4)] for n in networks],
        [x.double().numpy() for x in inputs],
        0.9,
    )
    for index, weight in zip((0, 2, 4), wanted, strict=True):
        name = f"{index}.weight"
        np.testing.assert_allclose(shell[index].weight.detach().numpy(), weight, atol=2e-5)
        again = regmean(name, [read(name) for read in readers], [g[name] for g in grams])
        torch.testing.assert_close(again, shell[index].weight.detach())
    plain = reference.regmean(
        [n[4].weight.detach().double().numpy() for n in networks],
        [n[:4](x).detach().double().numpy() for n, x in zip(networks, inputs, strict=True)],
        0.9,
    )
    assert np.abs(plain - wanted[2]).max() > 0.01  # RegMean differs, so the test can fail


def llama() -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=8, intermediate_size=12, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=11, max_position_embeddings=16, initializer_range=0.3,
        tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def gpt2() -> GPT2LMHeadModel:
    config = GPT2Config(
        n_embd=8, n_layer=3, n_head=2, vocab_size=11, n_positions=16, initializer_range=0.3
    )
    return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize(
    ("build", "prefix", "head"),
    [(llama, "model.layers.", {"lm_head.weight"}), (gpt2, "transformer.h.", set())],
)
def test_layers_see_what_merged_layers_make(
    build: Callable[[], nn.Module], prefix: str, head: set[str]
) -> None:
    torch.manual_seed(0)
    models = [build() for _ in range(2)]
    batches = [[{"input_ids": torch.randint(0, 11, (2, 9))} for _ in range(3)] for _ in models]
    shell, readers = build(), readers_of(models)
    grams = collect_sequential(shell, readers, batches, regmean)
    merged = {name: tensor.clone() for name, tensor in shell.state_dict().items()}
    for model, own, found in zip(models, batches, grams, strict=True):
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for layer in range(3):  # the same the slow way: a whole model, merged up to this layer
            mixed = {
                name: state[name] if name.startswith(f"{prefix}{layer}.") else merged[name]
                for name in state
            }
            model.load_state_dict(mixed)
            for name, gram in collect_gram(model, own).tensors.items():
                if name.startswith(f"{prefix}{layer}."):
                    torch.testing.assert_close(found[name], gram, rtol=1e-4, atol=1e-5)
        assert {name for name in found if not name.startswith(prefix)} == head
    for name in merged:
        if name in grams[0]:
            tensors = [read(name) for read in readers]
            again = regmean(name, tensors, [found[name] for found in grams])
            torch.testing.assert_close(again, merged[name])


def test_a_padded_batch_is_the_same_as_its_texts() -> None:
    torch.manual_seed(0)
    models = [llama(), llama()]
    ids = torch.randint(0, 11, (2, 7))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    padded = [[{"input_ids": ids, "attention_mask": mask}]] * 2
    alone = [[{"input_ids": ids[:1]}, {"input_ids": ids[1:, :4]}]] * 2
    one = collect_sequential(llama(), readers_of(models), padded, regmean)
    two = collect_sequential(llama(), readers_of(models), alone, regmean)
    for name, gram in one[0].items():
        torch.testing.assert_close(gram, two[0][name], rtol=1e-3, atol=1e-4)


class Skipping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[1](x + self.layers[0](x))


class Keyword(Skipping):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[1](input=self.layers[0](x))


class Twice(Skipping):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[1](self.layers[1](self.layers[0](x)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (Skipping, "receives something else"),
        (Keyword, "takes no tensor"),
        (Twice, "other than once"),
        (lambda: nn.Linear(3, 3), "one stack of layers"),
    ],
)
def test_models_that_are_no_chain_are_refused(build: Callable[[], nn.Module], message: str) -> None:
    models = [build(), build()]
    with pytest.raises(IncompatibleModelsError, match=message):
        collect_sequential(build(), readers_of(models), [[torch.randn(4, 3)]] * 2, regmean)
