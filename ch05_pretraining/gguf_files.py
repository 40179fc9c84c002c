"""Models from GGUF files: what people have from Ollama and LM Studio, in the course's own classes.

One table pairs GGUF's names with ours. llama.cpp turns neighbors in a head (numbers 0 and 1, 2 and 3, …) where our
`rotate` turns number i with number i + K/2, so its files of the architecture "llama" hold the rows of queries and keys
in another order; that is undone here. The numbers are read a few rows at a time, so that hardly more memory is in use
than the model takes.

Left out: windows, mixtures of experts, other scalings of rotations than Llama 3's and linear ones, several files.
References: ggml's specification of GGUF; llama.cpp's converter.
"""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT
from ch05_pretraining.gguf_format import GGUFFile
from ch05_pretraining.published_tokenizers import PublishedTokenizer, needed_package
from ch05_pretraining.weight_files import PRECISIONS, empty_model, filled, require_memory, require_tokens

__all__ = ["load_gguf"]

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gpt2")
INTERLEAVED = ("llama",)  # architectures whose queries and keys lie in llama.cpp's order
# GGUF's name -> our name; what follows is weight or bias
MODEL_NAMES = {
    "token_embd": "token_embedding", "position_embd": "position_embedding", "output_norm": "final_norm",
    "output": "head",
}  # fmt: skip
BLOCK_NAMES = {
    "attn_norm": "norm1", "attn_q": "attention.q_proj", "attn_k": "attention.k_proj", "attn_v": "attention.v_proj",
    "attn_qkv": "attention.qkv_proj", "attn_q_norm": "attention.q_norm", "attn_k_norm": "attention.k_norm",
    "attn_output": "attention.out_proj", "ffn_norm": "norm2", "ffn_gate": "feed_forward.gate_proj",
    "ffn_up": "feed_forward.up_proj", "ffn_down": "feed_forward.down_proj",
}  # fmt: skip
ROPE_FACTORS = "rope_freqs.weight"
READ = {
    "context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon", "attention.sliding_window", "rope.dimension_count", "rope.freq_base",
    "rope.scaling.type", "rope.scaling.factor",
}  # fmt: skip
# refused unless they have this value or are not there
ONLY: dict[str, Any] = {
    "attention.causal": True, "attention.clamp_kqv": 0, "attention.max_alibi_bias": 0, "attention.scale": 0,
    "attn_logit_softcapping": 0, "final_logit_softcapping": 0, "logit_scale": 0, "embedding_scale": 0,
    "residual_scale": 0, "expert_count": 0, "expert_used_count": 0, "nextn_predict_layers": 0, "pooling_type": 0,
    "use_parallel_residual": False, "rope.scaling.attn_factor": 1,
}  # fmt: skip
PASSED_OVER = {"vocab_size", "rope.scaling.original_context_length", "rope.scaling.finetuned", "tensor_data_layout"}
NUMBERS_AT_ONCE = 2**16  # larger pieces leave holes in memory when they are let go


def load_gguf(path: str | Path, dtype: str = "float32") -> tuple[GPTModel, PublishedTokenizer]:
    """Load the model and the tokenizer of a GGUF file; the model is in evaluation mode.

    Args:
        path: a file of the architecture llama (Llama 3, SmolLM2, Mistral Nemo), qwen2, qwen3 or gpt2, whose numbers
            are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, or Q2_K to Q6_K.
        dtype: in which the model holds its numbers: "float32", "bfloat16", "float16" or "float64".

    Raises:
        ValueError: the file is damaged or of another kind, the model computes what ours cannot, or there is too little
            memory; nothing large has been done then.

    Source: ggml's specification of GGUF.
    """
    if dtype not in PRECISIONS:
        raise ValueError(f"dtype={dtype!r} is not one of {', '.join(PRECISIONS)}; choose one of them")
    needed_package("gguf")
    file = GGUFFile(path)
    try:
        config = read_gguf_config(file)
        model = empty_model(ModernGPT if isinstance(config, ModernConfig) else GPTModel, config)
        places = _places(file, model)
        tokenizer = PublishedTokenizer.from_gguf(file.fields)
        require_tokens(tokenizer.vocab_size, config.vocab_size)
        require_memory(model.n_parameters * getattr(torch, dtype).itemsize)
        return filled(model, ((ours, _read(file, theirs, config, dtype)) for theirs, ours in places.items())), tokenizer
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{error}; the file is {path}") from error


# ---------------------------------------------------------------- the shape


def read_gguf_config(file: GGUFFile) -> GPTConfig:
    """Say in our words what the fields of a GGUF file say of the model's shape.

    Args:
        file: opened.

    Raises:
        ValueError: another architecture, a field that asks for other arithmetic than ours, or one that is missing.

    Source: ggml's specification of GGUF.
    """
    architecture, most = _architecture(file.fields), len(file.tensors)
    begin = f"{architecture}."
    said = {key.removeprefix(begin): value for key, value in file.fields.items() if key.startswith(begin)}
    try:
        _refuse_other_arithmetic(said)
        if said["block_count"] > most:
            raise ValueError(
                f"found block_count={said['block_count']} and {most} tensors; expected some for each block"
            )
        return _gpt2_config(said, file) if architecture == "gpt2" else _modern_config(said, file, architecture)
    except KeyError as error:
        raise ValueError(f"found no field or tensor {error}; expected one: fetch the file again") from error
    except (TypeError, ArithmeticError) as error:
        raise ValueError(f"found a damaged description of the model ({error}); fetch the file again") from error


def _architecture(fields: dict[str, Any]) -> str:
    if (kind := fields.get("general.type", "model")) != "model":
        raise ValueError(f"found general.type={kind!r}; expected 'model': give the file of a whole model")
    if (parts := fields.get("split.count", 0)) not in (0, 1):
        raise ValueError(
            f"found split.count={parts}; expected a model in one file: join the parts with llama-gguf-split"
        )
    if (architecture := fields.get("general.architecture")) not in ARCHITECTURES:
        raise ValueError(
            f"found general.architecture={architecture!r}; expected one of {', '.join(ARCHITECTURES)}: take a model of "
            "one of those"
        )
    return architecture


def _refuse_other_arithmetic(said: dict[str, Any]) -> None:
    """Refuse, by a field's name, what asks for other arithmetic than ours."""
    for key, allowed in ONLY.items():
        if said.get(key, allowed) != allowed:
            raise ValueError(
                f"found {key}={said[key]!r}; expected {allowed!r}, which our models compute: take another model"
            )
    if 0 < (window := said.get("attention.sliding_window", 0)) < said["context_length"]:
        raise ValueError(f"found attention.sliding_window={window}; expected none in use: take another model")
    if unknown := sorted(said.keys() - READ - ONLY.keys() - PASSED_OVER):
        warnings.warn(f"these fields are not known here and were passed over: {', '.join(unknown)}", stacklevel=5)


def _gpt2_config(said: dict[str, Any], file: GGUFFile) -> GPTConfig:
    if _short(eps := said["attention.layer_norm_epsilon"]) != 1e-5:
        raise ValueError(f"found attention.layer_norm_epsilon={eps}; expected 1e-5, as GPT-2 has: take another model")
    return GPTConfig(
        vocab_size=file.tensors["token_embd.weight"].shape[0],
        context_length=said["context_length"],
        d_model=said["embedding_length"],
        n_heads=said["attention.head_count"],
        n_layers=said["block_count"],
        d_ff=said["feed_forward_length"],
        tie_weights="output.weight" not in file.tensors,
    )


def _modern_config(said: dict[str, Any], file: GGUFFile, architecture: str) -> ModernConfig:
    d_model, n_heads = said["embedding_length"], said["attention.head_count"]
    head = said.get("attention.key_length", d_model // n_heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if said.get(key, head) != head:
            raise ValueError(f"found {key}={said[key]}; expected {head}, the width of a head: take another model")
    return ModernConfig(
        vocab_size=file.tensors["token_embd.weight"].shape[0],
        context_length=said["context_length"],
        d_model=d_model,
        n_heads=n_heads,
        n_layers=said["block_count"],
        d_ff=said["feed_forward_length"],
        qkv_bias="blk.0.attn_q.bias" in file.tensors,
        tie_weights="output.weight" not in file.tensors,
        n_kv_heads=said.get("attention.head_count_kv", n_heads),
        rope_base=_short(said.get("rope.freq_base", 10_000.0)),
        qk_norm=architecture == "qwen3",
        norm_eps=_short(said["attention.layer_norm_rms_epsilon"]),
        head_width=None if head * n_heads == d_model else head,
        rope_factors=_rope_factors(said, file, head // 2),
        out_bias="blk.0.attn_output.bias" in file.tensors,
        ff_bias="blk.0.ffn_up.bias" in file.tensors,
    )


def _short(number: float) -> float:
    """The decimal that was meant: 1e-5 has become 9.99999974e-06 in float32."""
    return float(str(np.float32(number)))


def _rope_factors(said: dict[str, Any], file: GGUFFile, n_pairs: int) -> tuple[float, ...] | None:
    """How many times slower each pair turns: listed as a tensor (Llama 3.1 and later), or one number for all."""
    kind, factor = said.get("rope.scaling.type", "linear"), _short(said.get("rope.scaling.factor", 1.0))
    if kind not in ("none", "linear"):
        raise ValueError(f"found rope.scaling.type={kind!r}; expected none or linear: take another model")
    factor = factor if kind == "linear" else 1.0
    listed = file.numbers(ROPE_FACTORS)[0].tolist() if ROPE_FACTORS in file.tensors else None
    return None if listed is None and factor == 1 else tuple(factor * each for each in listed or [1.0] * n_pairs)


# ---------------------------------------------------------------- the numbers


def _places(file: GGUFFile, model: GPTModel) -> dict[str, str]:
    """Name of each tensor -> our name, once every tensor has a place of its shape and no place is left empty."""
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    places = {theirs: _our_name(theirs) for theirs in file.tensors if theirs != ROPE_FACTORS}
    for theirs, ours in places.items():
        if ours not in shapes:
            raise ValueError(f"found the tensor {theirs}, for which this model has no place; take another file")
        if file.tensors[theirs].shape != shapes[ours]:
            found = file.tensors[theirs].shape
            raise ValueError(f"found {theirs} of the shape {found}; expected {shapes[ours]}: fetch the file again")
    if missing := sorted(shapes.keys() - set(places.values())):
        raise ValueError(
            f"found no tensor for {', '.join(missing[:3])}; expected one for each part: fetch the file again"
        )
    return places


def _our_name(theirs: str) -> str:
    parts = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", theirs)
    block, part, kind = parts.groups() if parts else (None, theirs, "")
    if block is None:
        return f"{MODEL_NAMES.get(part)}.{kind}"
    return f"blocks.{block}.{BLOCK_NAMES.get(part)}.{kind}"


def _read(file: GGUFFile, theirs: str, config: GPTConfig, dtype: str) -> Tensor:
    """The numbers of one tensor, each row where it belongs."""
    tensor = torch.empty(file.tensors[theirs].shape, dtype=getattr(torch, dtype))
    rows = tensor.view(len(tensor), -1)  # (rows, 1) where there is one axis
    order, step = _order(file, theirs, config), max(1, NUMBERS_AT_ONCE // rows.shape[1])
    for begin in range(0, len(rows), step):
        numbers = torch.tensor(file.numbers(theirs, begin, begin + step)).to(tensor.dtype)
        if not numbers.isfinite().all():
            raise ValueError(
                f"found numbers in {theirs} that are not finite in {dtype}; take 'float32', or another file"
            )
        rows[order[begin : begin + step]] = numbers.reshape(-1, rows.shape[1])
    return tensor


def _order(file: GGUFFile, theirs: str, config: GPTConfig) -> Tensor:
    """Where each row of the file belongs: llama.cpp's neighbors in a head are half a head apart here."""
    rows = torch.arange(file.tensors[theirs].shape[0])
    heads = {"attn_q": config.n_heads, "attn_k": config.n_kv_heads}.get(theirs.split(".")[-2])
    if heads is None or file.fields["general.architecture"] not in INTERLEAVED:
        return rows
    return rows.view(heads, 2, -1).transpose(1, 2).flatten()  # (heads, 2, K/2) -> (heads, K/2, 2)
