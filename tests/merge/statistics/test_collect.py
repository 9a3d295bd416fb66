"""Statistics of real modules against what their definitions give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from miscible.errors import DatasetError, MiscibleError
from miscible.merge.statistics.collect import (
    causal_log_likelihood,
    collect_fisher,
    collect_gram,
    collect_statistics,
)
from references import statistics as reference


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3, bias=False))


@pytest.fixture
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=11, max_position_embeddings=16, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def sequences(*rows: list[int]) -> list[dict[str, torch.Tensor]]:
    return [{"input_ids": torch.tensor([row])} for row in rows]


def test_grams_of_a_network(network: nn.Sequential) -> None:
    batches = [torch.randn(5, 4), torch.randn(2, 4)]
    found = collect_gram(network, batches)
    x = torch.cat(batches)
    hidden = network[0](x).relu().detach()
    assert found.tensors.keys() == {"0.weight", "2.weight"}
    torch.testing.assert_close(found.tensors["0.weight"], x.T @ x / 7)
    torch.testing.assert_close(found.tensors["2.weight"], hidden.T @ hidden / 7)
    assert (found.examples, found.tokens) == (7, 7)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_inputs_that_are_changed_later_count_as_they_came() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    x = torch.randn(1500, 3)
    found = collect_gram(model, [x[:700].clone(), x[700:1400].clone(), x[1400:].clone()]).tensors
    hidden = model[1](model[0](x)).relu().detach()
    torch.testing.assert_close(found["0.weight"], x.T @ x / 1500)
    torch.testing.assert_close(found["3.weight"], hidden.T @ hidden / 1500)

    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.linear(input=x)
            x.mul_(2)
            return y

    ones = torch.ones(1, 3)
    assert collect_gram(Doubling(), [ones]).tensors["linear.weight"].equal(torch.ones(3, 3))
    assert ones.equal(torch.full((1, 3), 2.0))


def test_padding_does_not_count(llama: LlamaForCausalLM) -> None:
    alone = collect_gram(llama, sequences([1, 2, 3, 4], [5, 6]))
    padded = {
        "input_ids": torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
    }
    together = collect_gram(llama, [padded])
    assert (together.examples, together.tokens) == (alone.examples, alone.tokens) == (2, 6)
    for name, gram in alone.tensors.items():
        torch.testing.assert_close(together.tensors[name], gram)
    layers = {name for name, _ in llama.named_parameters() if name.endswith("proj.weight")}
    assert alone.tensors.keys() == layers  # the tied head belongs to the embedding


def test_padding_that_cannot_be_told_apart_is_refused() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.linear(x.mean(dim=1))

    batch = {"x": torch.randn(2, 4, 3), "attention_mask": torch.ones(2, 4)}
    collect_gram(Pooled(), [batch])
    batch["attention_mask"][0, 3] = 0
    with pytest.raises(MiscibleError, match=r"padding .* 'linear.weight'"):
        collect_gram(Pooled(), [batch])


def test_weights_stored_in_out_are_told() -> None:
    torch.manual_seed(0)
    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=11, n_positions=16)
    model = GPT2LMHeadModel(config).eval()
    found = collect_gram(model, sequences([1, 2, 3, 4])).tensors
    weights = dict(model.named_parameters())
    assert len(found) == 4
    for name, gram in found.items():
        assert gram.shape == (1, weights[name].shape[0], weights[name].shape[0])


def test_fisher_of_softmax_regression() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3, bias=False).double()
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 1])

    def log_likelihood(module: nn.Module, example: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return -nn.functional.cross_entropy(module(example[0]), example[1])

    found = collect_fisher(model, [(x[:4], y[:4]), (x[4:], y[4:])], log_likelihood=log_likelihood)
    wanted = reference.softmax_fisher(model.weight.detach().numpy(), x.numpy(), y.numpy())
    np.testing.assert_allclose(found.tensors["weight"].numpy(), wanted, rtol=1e-5)
    assert found.examples == 6


def test_fisher_of_a_language_model_squares_each_sequence(llama: LlamaForCausalLM) -> None:
    rows = [[1, 2, 3, 4], [5, 6, 7], [9]]  # the last has no token to predict
    llama.requires_grad_(False)
    found = collect_statistics(llama, sequences(*rows), "fisher")
    assert (found.examples, found.tokens) == (2, 7)
    assert not any(p.requires_grad or p.grad is not None for p in llama.parameters())
    llama.requires_grad_(True)
    wanted = {name: torch.zeros_like(p) for name, p in llama.named_parameters()}
    for row in rows[:2]:
        llama.zero_grad()
        ids = torch.tensor([row])
        (llama(ids, labels=ids).loss * (len(row) - 1)).backward()
        for name, parameter in llama.named_parameters():
            wanted[name] += parameter.grad**2 / 2
    assert found.tensors.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found.tensors[name], tensor, rtol=1e-4, atol=1e-8)
        assert tensor.any()


def test_only_labelled_tokens_are_predicted(llama: LlamaForCausalLM) -> None:
    ids = torch.tensor([[1, 2, 3, 4]])
    log_p = llama(ids).logits[0].log_softmax(dim=-1)
    whole = causal_log_likelihood(llama, {"input_ids": ids})
    answer = {"input_ids": ids, "labels": torch.tensor([[-100, -100, -100, 4]])}
    torch.testing.assert_close(whole, log_p[0, 2] + log_p[1, 3] + log_p[2, 4])
    torch.testing.assert_close(causal_log_likelihood(llama, answer), log_p[2, 4])
    padded = {"input_ids": torch.tensor([[1, 2, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    torch.testing.assert_close(causal_log_likelihood(llama, padded), log_p[0, 2])


def test_sampled_labels_belong_to_the_seed(llama: LlamaForCausalLM) -> None:
    batches = sequences([1, 2, 3, 4, 5], [6, 7, 8])
    one, same, other = (
        collect_fisher(llama, batches, labels="sampled", seed=seed).tensors["model.norm.weight"]
        for seed in (0, 0, 1)
    )
    assert one.equal(same)
    assert not one.equal(other)


def test_nan_names_the_layer(network: nn.Sequential) -> None:
    with pytest.raises(MiscibleError, match="'0.weight' are not finite"):
        collect_gram(network, [torch.full((1, 4), float("nan"))])


def test_what_cannot_be_collected_is_refused(
    network: nn.Sequential, llama: LlamaForCausalLM
) -> None:
    with pytest.raises(MiscibleError, match="log_likelihood"):
        collect_fisher(network, [torch.randn(1, 4)])
    with pytest.raises(DatasetError, match="no text has a token to predict"):
        collect_fisher(llama, sequences([3]))
    with pytest.raises(MiscibleError, match="no kind of statistics"):
        collect_statistics(network, [torch.randn(1, 4)], "hessian")  # type: ignore[arg-type]
