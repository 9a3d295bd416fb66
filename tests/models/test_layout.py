from __future__ import annotations

import time

import pytest

from miscible.errors import RecipeError
from miscible.models.layout import (
    Layout,
    depth_of,
    input_embedding,
    is_output_head,
    place_of,
    role_of,
    stack_sizes,
)

LAYER_OF = {
    "model.layers.3.self_attn.q_proj.weight": ("model.layers.", 3),
    "model.layers.3.mlp.experts.17.w1.weight": ("model.layers.", 3),
    "transformer.h.11.attn.c_attn.weight": ("transformer.h.", 11),
    "bert.encoder.layer.0.output.LayerNorm.bias": ("bert.encoder.layer.", 0),
    "encoder.block.3.layer.0.SelfAttention.q.weight": ("encoder.block.", 3),
    "text_model.encoder.layers.7.mlp.fc1.weight": ("text_model.encoder.layers.", 7),
    "visual.transformer.resblocks.5.attn.in_proj_weight": ("visual.transformer.resblocks.", 5),
    "backbone.layers.2.mixer.A_log": ("backbone.layers.", 2),
    "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q.weight": ("down_blocks.", 0),
    "swin.encoder.layers.2.blocks.5.output.dense.weight": ("swin.encoder.layers.", 2),
    "segformer.encoder.block.1.0.mlp.dense1.weight": ("segformer.encoder.block.", 1),
    "layer3.0.conv1.weight": ("layer", 3),
    "net.2.bias": ("net.", 2),
    "0.weight": ("", 0),
}
OUTSIDE = [
    "classifier.1.weight",
    "time_embed.0.weight",
    "segformer.encoder.patch_embeddings.2.proj.weight",
    "encoder.layer_norm.3.weight",
    "mm_projector.0.weight",
    "mid_block.resnets.1.conv2.weight",
    "experts.3.weight",
    "prompts.3",
    "model.layers.123456789012.weight",
    "",
    ".",
]
ROLE_OF = {
    "model.embed_tokens.weight": "embedding",
    "transformer.wpe.weight": "embedding",
    "shared.weight": "embedding",
    "vit.embeddings.cls_token": "embedding",
    "vit.embeddings.patch_embeddings.projection.weight": "embedding",
    "conv_in.weight": "embedding",
    "model.layers.0.self_attn.q_proj.weight": "attention",
    "transformer.h.0.attn.c_proj.weight": "attention",
    "bert.encoder.layer.0.attention.output.dense.weight": "attention",
    "encoder.block.0.layer.1.EncDecAttention.o.weight": "attention",
    "layers.0.attention.wo.weight": "attention",
    "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0.weight": "attention",
    "double_blocks.3.img_attn.qkv.weight": "attention",
    "model.layers.0.mlp.gate_proj.weight": "mlp",
    "transformer.h.0.mlp.c_proj.weight": "mlp",
    "bert.encoder.layer.0.intermediate.dense.weight": "mlp",
    "bert.encoder.layer.0.output.dense.weight": "mlp",
    "encoder.block.0.layer.1.DenseReluDense.wi_0.weight": "mlp",
    "model.layers.0.block_sparse_moe.experts.3.w2.weight": "mlp",
    "model.layers.0.block_sparse_moe.gate.weight": "mlp",
    "down_blocks.0.attentions.1.transformer_blocks.0.ff.net.0.proj.weight": "mlp",
    "model.decoder.layers.0.fc1.weight": "mlp",
    "model.layers.0.input_layernorm.weight": "norm",
    "model.decoder.layers.0.self_attn_layer_norm.weight": "norm",
    "model.layers.0.self_attn.q_norm.weight": "norm",
    "transformer.ln_f.weight": "norm",
    "vision_model.pre_layrnorm.weight": "norm",
    "layer1.0.bn1.running_mean": "norm",
    "bert.embeddings.LayerNorm.weight": "norm",
    "lm_head.weight": "head",
    "embed_out.weight": "head",
    "output.weight": "head",
    "classifier.1.weight": "head",
    "cls.predictions.transform.dense.weight": "head",
    "logit_scale": "head",
    "conv_out.weight": "head",
    "layer1.0.conv1.weight": "other",
    "down_blocks.0.resnets.1.conv1.weight": "other",
    "backbone.layers.0.mixer.in_proj.weight": "other",
    "unheard.of": "other",
    "": "other",
}


@pytest.mark.parametrize(("name", "expected"), LAYER_OF.items())
def test_the_outermost_number_is_the_layer(name: str, expected: tuple[str, int]) -> None:
    place = place_of(name)
    assert (place.stack, place.index) == expected
    assert f"{place.stack}{place.index}{place.rest}" == name


@pytest.mark.parametrize("name", OUTSIDE)
def test_numbers_of_other_things_are_no_layers(name: str) -> None:
    assert place_of(name).stack is None
    assert place_of(name).index is None


@pytest.mark.parametrize(("name", "role"), ROLE_OF.items())
def test_roles(name: str, role: str) -> None:
    assert role_of(name) == role


def test_two_towers_have_two_depths() -> None:
    names = [f"text_model.encoder.layers.{i}.mlp.fc1.weight" for i in range(3)]
    names += [f"vision_model.encoder.layers.{i}.mlp.fc1.weight" for i in range(5)]
    sizes = stack_sizes(names)
    assert sizes == {"text_model.encoder.layers.": 3, "vision_model.encoder.layers.": 5}
    assert [depth_of(place_of(name), sizes) for name in names] == [
        0, 0.5, 1, 0, 0.25, 0.5, 0.75, 1
    ]  # fmt: skip


def test_depth_runs_over_the_blocks_of_all_stages() -> None:
    names = [
        f"layers.{s}.blocks.{b}.attn.qkv.weight" for s, n in enumerate([2, 3]) for b in range(n)
    ]
    names.insert(2, "layers.0.downsample.reduction.weight")
    sizes = stack_sizes(names)
    assert sizes == {"layers.": 2}
    found = [depth_of(place_of(name), sizes) for name in names]
    assert found == [0, 0.25, 0.25, 0.5, 0.75, 1]
    assert depth_of(place_of(names[0]), {"layers.": 2}) == 0
    assert depth_of(place_of(names[-1]), {"layers.": 2}) == 1


def test_stages_may_count_from_one() -> None:
    names = [f"layer{stage}.{block}.conv1.weight" for stage in (1, 2, 3, 4) for block in (0, 1)]
    sizes = stack_sizes(names)
    assert [depth_of(place_of(name), sizes) for name in names] == [i / 7 for i in range(8)]


def test_sublayers_and_experts_are_not_deeper() -> None:
    names = [
        "encoder.block.1.layer.0.SelfAttention.q.weight",
        "encoder.block.1.layer.1.DenseReluDense.wo.weight",
        "encoder.block.4.layer.1.DenseReluDense.wo.weight",
    ]
    sizes = stack_sizes(names)
    assert [depth_of(place_of(name), sizes) for name in names] == [0.25, 0.25, 1]


def test_before_and_after_the_layers() -> None:
    before = [
        "model.embed_tokens.weight",
        "conv1.weight",
        "bn1.bias",
        "model.encoder.conv2.weight",
        "class_embedding",
        "img_in.weight",
        "time_embed.2.bias",
        "vit.embeddings.cls_token",
    ]
    after = [
        "model.norm.weight",
        "lm_head.weight",
        "embed_out.weight",
        "fc.weight",
        "pooler.dense.bias",
        "text_projection.weight",
        "conv_norm_out.weight",
        "mid_block.resnets.1.conv2.weight",
    ]
    assert [depth_of(place_of(name), {}) for name in before] == [0.0] * len(before)
    assert [depth_of(place_of(name), {}) for name in after] == [1.0] * len(after)
    assert depth_of(place_of("layers.0.weight"), {"layers.": 1}) == 1.0


def test_heads_and_embeddings_that_may_be_tied() -> None:
    heads = ["lm_head.weight", "cls.predictions.decoder.weight", "proj_out.weight", "output.weight"]
    assert all(map(is_output_head, heads))
    others = [
        "layers.0.output.weight",
        "down_blocks.0.proj_out.weight",
        "lm_head.bias",
        "bert.encoder.layer.0.output.dense.weight",
    ]
    assert not any(map(is_output_head, others))
    tokens = [
        "model.shared.weight",
        "model.encoder.embed_tokens.weight",
        "model.decoder.embed_tokens.weight",
        "model.encoder.embed_positions.weight",
    ]
    assert input_embedding(tokens) == "model.shared.weight"
    assert input_embedding(tokens[1:]) is None
    assert input_embedding(tokens[2:]) == "model.decoder.embed_tokens.weight"
    assert input_embedding(["a.embeddings.word_embeddings.weight"]) is not None
    assert input_embedding(["model.layers.61.embed_tokens.weight"]) is None


def test_the_user_knows_better() -> None:
    layout = Layout("stage_{layer}_", {"mixer": "attention", "mix": "mlp"})
    place = layout.place_of("net.stage_12_.mixer.weight")
    assert (place.stack, place.index, place.rest) == ("net.stage_", 12, "_.mixer.weight")
    assert place.role == "attention"
    assert layout.role_of("net.stage_1_.mix.weight") == "mlp"
    assert layout.role_of("net.stage_1_.self_attn.weight") == "attention"
    assert layout.place_of("net.prestage_1_.weight").index is None
    assert layout.place_of("net.layers.3.weight").index is None
    several = Layout(["enc.{layer}.", "dec.{layer}."])
    assert several.stack_sizes(["enc.1.a", "dec.0.a"]) == {"enc.": 2, "dec.": 1}


@pytest.mark.parametrize("template", ["blocks", "", "{layer}{layer}", "{block}.{layer}"])
def test_templates_that_are_none(template: str) -> None:
    with pytest.raises(RecipeError, match="not a template"):
        Layout(template)


def test_a_role_that_is_none() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'attention'"):
        Layout(roles={"x": "atention"})


@pytest.mark.parametrize(
    "part", ["1.", "a.", "experts.", "experts.1.", "layer1.", "(a+)+", "norm_"]
)
def test_names_of_strangers_take_linear_time(part: str) -> None:
    start = time.process_time()
    place_of(part * 100_000)
    Layout("(a+)+{layer}$").place_of(part * 100_000)
    assert time.process_time() - start < 2
