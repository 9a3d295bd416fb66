"""Every finding before a merge, on tiny models that differ in one thing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fakehub import COMMIT, HubModel, fake_hub, talk_to
from miscible.errors import CheckpointError, ModelReferenceError
from miscible.models.licence import Kind, front_matter, licence_of
from miscible.models.preflight import (
    Finding,
    Severity,
    Subject,
    check_architecture,
    check_chat_templates,
    check_configs,
    check_licences,
    check_lineage,
    check_storage,
    check_vocabulary,
    open_subject,
    subject,
)
from miscible.models.remote import transport
from tiny import WIDTH, WORDS, tiny_tensors, write_adapter, write_model, write_tokenizer

Edit = Callable[[Path], None]
ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


def config(**fields: Any) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return edit


def tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Edit:
    def edit(folder: Path) -> None:
        held = load_file(folder / "model.safetensors")
        change(held)
        save_file(held, folder / "model.safetensors")

    return edit


def card(text: str) -> Edit:
    return lambda folder: (folder / "README.md").write_text(f"---\n{text}\n---\n# x") and None


def template(text: str) -> Edit:
    return lambda folder: (folder / "chat_template.jinja").write_text(text) and None


def pair(tmp_path: Path, *edits: Edit, first: tuple[Edit, ...] = ()) -> list[Subject]:
    """Open two tiny models, the second of which is edited."""
    (tmp_path / "scratch").mkdir(parents=True)
    subjects = []
    for seed, (name, changes) in enumerate((("a", first), ("b", edits))):
        folder = write_model(tmp_path / name, tiny_tensors(seed))
        for edit in changes:
            edit(folder)
        subjects.append(open_subject(str(folder), tmp_path / "scratch", label=name))
    return subjects


def examined(subjects: list[Subject], judged: Severity = ERROR) -> list[Finding]:
    return [
        *(finding for subject in subjects for finding in subject.findings),
        *check_architecture(subjects, slices=False, judged=judged),
        *check_configs(subjects, "a", slices=False),
        *check_vocabulary(subjects, "a", judged=judged),
        *check_chat_templates(subjects, "a"),
        *check_storage(subjects, dtype_given=False),
        *check_lineage(subjects, None),
        *check_licences(subjects),
    ]


def graver(findings: list[Finding], than: Severity = INFO) -> list[tuple[Severity, str]]:
    order = list(Severity)
    return [
        (f.severity, f.check)
        for f in findings
        if order.index(f.severity) < order.index(than) and f.check != "licence"
    ]


def test_models_that_fit(tmp_path: Path) -> None:
    findings = examined(pair(tmp_path))
    assert graver(findings) == []
    said = " ".join(finding.what for finding in findings)
    assert "all 20 tensors have the same names and shapes" in said
    assert "same tokens the same ids (14 tokens)" in said


def drop(name: str) -> Edit:
    return tensors(lambda held: held.__delitem__(name))


def drop_layer(held: dict[str, torch.Tensor]) -> None:
    for name in [n for n in held if ".layers.1." in n]:
        del held[name]


def reshape(held: dict[str, torch.Tensor]) -> None:
    held["model.norm.weight"] = torch.ones(WIDTH + 1)


def head(held: dict[str, torch.Tensor]) -> None:
    held["lm_head.weight"] = held["model.embed_tokens.weight"].clone()


def pad(held: dict[str, torch.Tensor]) -> None:
    rows = held["model.embed_tokens.weight"]
    held["model.embed_tokens.weight"] = torch.cat([rows, torch.zeros(2, WIDTH)])


def eight_bits(held: dict[str, torch.Tensor]) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    held[name] = held[name].to(torch.float8_e4m3fn)


def packed(held: dict[str, torch.Tensor]) -> None:
    held["model.layers.0.mlp.up_proj.qweight"] = torch.ones(2, 2, dtype=torch.int32)


def half(held: dict[str, torch.Tensor]) -> None:
    for name in held:
        held[name] = held[name].to(torch.bfloat16)


def unlike(folder: Path) -> None:
    write_tokenizer(folder, WORDS[::-1])


CASES: list[tuple[str, Edit, tuple[Severity, str], str]] = [
    ("model type", config(model_type="qwen2"), (ERROR, "architecture"), "llama in a; qwen2 in b"),
    ("architectures", config(architectures=["X"]), (WARNING, "architecture"), "X in b"),
    ("missing", drop("model.norm.weight"), (ERROR, "tensors"), "b lacks 1 tensor of a: model.norm"),
    ("layers", tensors(drop_layer), (ERROR, "tensors"), "b lacks 9 tensors of a"),
    ("shape", tensors(reshape), (ERROR, "tensors"), "1 of 20 tensors have other shapes, first "
     "model.norm.weight: [16] in a, [17] in b"),
    ("rope", config(rope_theta=1e6), (ERROR, "config"), "10000 in a; 1000000 in b: positions turn"),
    ("rope of transformers 5", config(rope_parameters={"rope_theta": 5e5, "rope_type": "default"}),
     (ERROR, "config"), "rope_theta is 10000 in a; 500000 in b"),
    ("rope scaling", config(rope_scaling={"type": "linear", "factor": 4.0}), (ERROR, "config"),
     "rope_type is default in a; linear in b"),
    ("heads", config(num_attention_heads=4), (ERROR, "config"), "cut into other heads"),
    ("depth", config(num_hidden_layers=3), (ERROR, "config"), "2 in a; 3 in b"),
    ("activation", config(hidden_act="gelu"), (WARNING, "config"), "unstated in a; gelu in b"),
    ("context", config(max_position_embeddings=128), (WARNING, "config"), "64 in a; 128 in b"),
    ("end of text", config(eos_token_id=2), (WARNING, "config"), "eos_token_id is 1 in a; 2 in b"),
    ("dtype", tensors(half), (WARNING, "dtype"), "float32 in a; bfloat16 in b; the merge takes 32"),
    ("8 bits", tensors(eight_bits), (ERROR, "quantised"), "stores 1 tensors as 8-bit floats"),
    ("packed", tensors(packed), (ERROR, "quantised"), "b holds 1 packed tensors"),
    ("quantised", config(quantization_config={"quant_method": "gptq"}), (ERROR, "quantised"),
     "b is quantised (gptq)"),
    ("tokens", unlike, (ERROR, "tokenizer"), "tokens have other ids"),
    ("more tokens", lambda f: write_tokenizer(f, [*WORDS, "new"]), (ERROR, "tokenizer"),
     "1 tokens are only in b"),
    ("no tokenizer", lambda f: (f / "tokenizer.json").unlink(), (WARNING, "tokenizer"),
     "b has no tokenizer"),
    ("damaged tokenizer", lambda f: (f / "tokenizer.json").write_text("[]") and None,
     (ERROR, "tokenizer"), "not a JSON object"),
    ("rows", tensors(pad), (ERROR, "embedding"), "14 in a; 16 in b"),
    ("vocab_size", config(vocab_size=99), (ERROR, "embedding"), "14 embedding rows, and its config "
     "says 99"),
    ("head", tensors(head), (WARNING, "tied embeddings"), "tied in a; stored in b"),
    ("tied flag", config(tie_word_embeddings=False), (WARNING, "tied embeddings"),
     "True in a; False in b"),
    ("template", template("{{ x }}"), (WARNING, "chat template"), "no chat template in a"),
    ("pickle", lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin") and None,
     (ERROR, "weights"), "only pickled weights"),
    ("no config", lambda f: (f / "config.json").unlink(), (ERROR, "config"), "missing"),
    ("html", lambda f: (f / "config.json").write_text("<html>") and None, (ERROR, "config"),
     "not JSON"),
    ("damaged", lambda f: (f / "model.safetensors").write_bytes(b"1234") and None,
     (ERROR, "weights"), "too short"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "expected", "said"), [c[1:] for c in CASES],
                         ids=[c[0] for c in CASES])  # fmt: skip
def test_what_differs_is_found(
    tmp_path: Path, edit: Edit, expected: tuple[Severity, str], said: str
) -> None:
    findings = examined(pair(tmp_path, edit))
    found = [f for f in findings if (f.severity, f.check) == expected and said in f.what]
    assert found, [(f.severity, f.check, f.what) for f in findings]
    if expected[0] is ERROR and expected[1] not in ("config", "weights"):
        assert found[0].fix, "what must be mended has a fix"


def test_what_changes_nothing_is_not_told(tmp_path: Path) -> None:
    edit = config(torch_dtype="float16", transformers_version="9", use_cache=False, dtype="x",
                  _name_or_path="/home/me/x", attention_dropout=0.5, pad_token_id=7,
                  head_dim=8, num_key_value_heads=2, rope_theta=10000)  # fmt: skip
    assert graver(examined(pair(tmp_path, edit))) == []


def test_an_unknown_field_is_told(tmp_path: Path) -> None:
    findings = examined(pair(tmp_path, config(gate="x" * 500), first=(config(gate=1),)))
    assert graver(findings) == [(WARNING, "config")]
    assert max(len(finding.what) for finding in findings) < 200


def test_what_the_plan_can_do_is_a_warning(tmp_path: Path) -> None:
    subjects = pair(tmp_path, unlike, tensors(pad), config(vocab_size=16))
    assert graver(examined(subjects, WARNING), WARNING) == []
    assert (WARNING, "tokenizer") in graver(examined(subjects, WARNING))


def test_padded_rows_and_ids_without_rows(tmp_path: Path) -> None:
    subjects = pair(tmp_path, lambda f: write_tokenizer(f, [*WORDS, "x", "y"]),
                    first=(lambda f: write_tokenizer(f, WORDS[:-1]),))  # fmt: skip
    said = [finding.what for finding in examined(subjects) if finding.check == "embedding"]
    assert said == [
        "a pads its 13 tokens to 14 embedding rows.",
        "b has tokens up to id 15, and 14 embedding rows.",
    ]


def test_chat_templates(tmp_path: Path) -> None:
    both = pair(tmp_path, template("{{ x }}"), first=(template("{{ y }}"),))
    (finding,) = check_chat_templates(both, "a")
    assert "differ (no. 1 in a; no. 2 in b)" in finding.what
    (both[0].place.folder / "chat_template.jinja").unlink()  # type: ignore[union-attr]
    (finding,) = check_chat_templates(both, "a")
    assert (finding.severity, "auto" in str(finding.fix)) == (WARNING, True)


def test_stated_bases(tmp_path: Path) -> None:
    a, b = pair(tmp_path, card("base_model: acme/x"), first=(card("base_model: [acme/X, c/d]"),))
    (same,) = check_lineage([a, b], None)
    assert "all state the same base, acme/x" in same.what
    assert "states that its base is" in check_lineage([a, b], a)[0].what
    a, b = pair(tmp_path / "2", config(_name_or_path="acme/z"), first=(card("base_model: acme/x"),))
    (different,) = check_lineage([a, b], None)
    assert different.what == "the models state different bases: acme/x in a; acme/z in b."
    (copy,) = check_lineage([b], pair(tmp_path / "z")[0])
    assert "acme/z, not a" in copy.what


def test_the_same_model_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def same(folder: Path) -> None:
        shutil.copy(folder.parent / "a" / "model.safetensors", folder)

    for limit in (2**28, 0):  # by whole hashes, by samples
        monkeypatch.setattr(subject, "MOST_BYTES_HASHED", limit)
        (found,) = check_lineage(pair(tmp_path / str(limit), same), None)
        assert (found.severity, found.check) == (WARNING, "same weights")
        assert not check_lineage(pair(tmp_path / f"{limit}b"), None)


def test_headers_alone_are_read(tmp_path: Path) -> None:
    a, _ = pair(tmp_path)
    assert a.checkpoint is not None
    with pytest.raises(CheckpointError, match="only the headers"):
        a.checkpoint.read("model.norm.weight")


@pytest.mark.parametrize(
    ("stated", "kind"),
    [
        ("license: apache-2.0", Kind.PERMISSIVE),
        ("license: GPL-3.0", Kind.SHARE_ALIKE),
        ("license: cc-by-nc-4.0", Kind.NON_COMMERCIAL),
        ("license: cc-by-nc-nd-4.0", Kind.NO_DERIVATIVES),
        ("license: llama3.1", Kind.OWN_TERMS),
        ("license: other", Kind.OWN_TERMS),
        ("license: other\nlicense_name: qwen-research", Kind.NON_COMMERCIAL),
        ("license: mine", Kind.UNKNOWN),
        ("license: [mit, cc-by-nc-4.0]", Kind.NON_COMMERCIAL),
        ("tags: [x]", Kind.ABSENT),
        ("license: !!python/object:os.system x", Kind.ABSENT),
        ("license: [", Kind.ABSENT),
    ],
)
def test_kinds_of_licences(stated: str, kind: Kind) -> None:
    assert licence_of(front_matter(f"---\n{stated}\n---\nlicense: mit")).kind is kind


def test_licences_are_told(tmp_path: Path) -> None:
    def told(first: str, second: str, where: str) -> list[str]:
        return [f.what for f in check_licences(
            pair(tmp_path / where, card(second), first=(card(first),)))]  # fmt: skip

    assert told("license: mit", "license: mit", "1") == ["all are under mit."]
    assert told("license: mit", "x: y", "2") == ["the card of b states no licence."]
    assert told("license: mit", "license: cc-by-nc-4.0", "3") == [
        "the licence of b, cc-by-nc-4.0, does not allow commercial use.",
        "the licences differ: mit in a; cc-by-nc-4.0 in b.",
    ]
    assert "terms of its own" in told("license: mit", "license: other", "4")[0]


def adapter(folder: Path, module: str = "model.layers.0.self_attn.q_proj", **fields: Any) -> Path:
    return write_adapter(folder, {module: (torch.ones(2, WIDTH), torch.ones(WIDTH, 2))}, **fields)


def test_adapters(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", tiny_tensors(0))

    def opened(reference: object) -> Subject:
        return open_subject(str(reference), tmp_path, label="x")

    good = opened(f"{base}+{adapter(tmp_path / 'good')}")
    assert good.findings == ()
    assert good.checkpoint is not None
    assert check_lineage([good], None) == []
    own = opened(adapter(tmp_path / "own", base=str(base)))
    assert own.checkpoint is not None
    other = opened(f"{base}+{adapter(tmp_path / 'other', base='acme/other')}")
    (finding,) = check_lineage([other], None)
    assert "trained on acme/other, not on" in finding.what
    for name, fields, said in (
        ("kind", {"peft_type": "IA3"}, "which are not LoRA"),
        ("target", {"module": "model.layers.9.self_attn.q_proj"}, "model.layers.9"),
        ("unnamed", {"base": ""}, "does not say what its base is"),
    ):
        folder = adapter(tmp_path / name, **fields)  # type: ignore[arg-type]
        broken = opened(folder if name == "unnamed" else f"{base}+{folder}")
        (finding,) = broken.findings
        assert (finding.severity, finding.check) == (ERROR, "adapter")
        assert said in finding.what
        assert broken.checkpoint is None


def test_models_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_PAUSE", 0.0)
    base = write_model(tmp_path / "base", tiny_tensors(0))
    lora = adapter(tmp_path / "lora", base="acme/base")
    pickles = tmp_path / "pickles"
    pickles.mkdir()
    (pickles / "config.json").write_text('{"model_type": "llama"}')
    (pickles / "pytorch_model.bin").write_text("x")
    several = tmp_path / "several"
    several.mkdir()
    (several / "config.json").write_text('{"model_type": "llama"}')
    for name in ("x", "y", "z"):
        (several / f"{name}.safetensors").write_bytes(b"damaged, but nobody looks")
    with fake_hub(
        base=HubModel(base, card={"license": "mit"}),
        lora=HubModel(lora, card={"license": "cc-by-nc-4.0"}),
        pickles=HubModel(pickles),
        gated=HubModel(base, gated=True, refused=(401, "GatedRepo")),
        several=HubModel(several),
    ) as hub:
        talk_to(hub.url, tmp_path / "hf", monkeypatch)

        def opened(reference: str) -> Subject:
            return open_subject(reference, tmp_path, label=reference)

        for reference in ("acme/lora", "acme/base+acme/lora", f"{base}+acme/lora"):
            found = opened(reference)
            assert found.findings == ()
            assert found.checkpoint is not None
            assert len(found.checkpoint.tensors) == 20
        assert hub.sent("adapter_model.safetensors") < 3 * 1000
        said = [finding.what for finding in check_licences([opened("acme/lora")])]
        assert "cc-by-nc-4.0 in acme/lora" in said[-1]
        for reference, check, said_ in (
            ("acme/pickles", "weights", "only pickled weights"),
            ("acme/gated", "access", "is gated"),
            ("acme/several", "weights", "3 files of weights and no index"),
            ("acme/nothing", "access", "no such model"),
            ("acme/base@v9", "access", "no such revision"),
        ):
            (finding,) = opened(reference).findings
            assert (finding.severity, finding.check) == (ERROR, check)
            assert said_ in finding.what
            assert str(tmp_path) not in finding.what
        with pytest.raises(ModelReferenceError, match="not a Hub id"):
            opened("./nowhere")
        place = opened("acme/base").place
        assert place is not None
        assert place.commit == COMMIT
