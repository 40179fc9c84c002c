"""Weights that travel: read GPT-2 as its authors saved it, write our models so that others can open them.

One table pairs GPT-2's names with ours and says which weights lie transposed: GPT-2 was written with a
"Conv1D" layer that stores (in, out) where a linear layer stores (out, in). One of the four is square, so
its shape alone cannot betray a forgotten transpose. Only safetensors are read: a pickle can run code.

Left out: other architectures (`open_weights.py` reads some), downloads (`python course.py fetch gpt2-124M`).
References: Radford et al. (2019); the file layout of the transformers library. Taught in ch05, section 5.13.
"""

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from ch02_text_data.bpe import GPT2_PATTERN
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch04_gpt_model.modern_gpt import ModernConfig
from ch05_pretraining.families import PREFIX, family_config, modern_config, modern_names
from ch05_pretraining.gpt2_config import gpt2_config, read_gpt2_config
from ch05_pretraining.model_parts import bare, build_model, class_and_config, refuse_other
from ch05_pretraining.published_tokenizers import PublishedTokenizer
from ch05_pretraining.saved_models import rounded
from ch05_pretraining.weight_files import (
    HEAD,
    Names,
    Stored,
    empty_model,
    list_tensors,
    read_model,
    require_blocks,
    require_tokens,
)
from data.durable_folders import json_bytes, write_folder
from data.paths import DATA_DIR

# GPT-2's name -> our name, stored transposed?
MODEL_NAMES = {
    "wte.weight": ("token_embedding.weight", False),
    "wpe.weight": ("position_embedding.weight", False),
    "ln_f.weight": ("final_norm.weight", False),
    "ln_f.bias": ("final_norm.bias", False),
}
BLOCK_NAMES = {
    "ln_1.weight": ("norm1.weight", False),
    "ln_1.bias": ("norm1.bias", False),
    "attn.c_attn.weight": ("attention.qkv_proj.weight", True),
    "attn.c_attn.bias": ("attention.qkv_proj.bias", False),
    "attn.c_proj.weight": ("attention.out_proj.weight", True),  # square: the shape would not complain
    "attn.c_proj.bias": ("attention.out_proj.bias", False),
    "ln_2.weight": ("norm2.weight", False),
    "ln_2.bias": ("norm2.bias", False),
    "mlp.c_fc.weight": ("feed_forward.up_proj.weight", True),
    "mlp.c_fc.bias": ("feed_forward.up_proj.bias", False),
    "mlp.c_proj.weight": ("feed_forward.down_proj.weight", True),
    "mlp.c_proj.bias": ("feed_forward.down_proj.bias", False),
}
SIZES = ("124M", "355M", "774M", "1558M")


def gpt2_names(n_layers: int, tie_weights: bool = True) -> Names:
    """Give the name table of a whole GPT-2: its name -> (our name, stored transposed).

    Args:
        n_layers: number of blocks.
        tie_weights: whether the head shares the token embedding's weights.

    Source: Radford et al. (2019), released weights. Taught in ch05, section 5.13.
    """
    blocks = {
        f"h.{i}.{theirs}": (f"blocks.{i}.{ours}", transposed)
        for i in range(n_layers)
        for theirs, (ours, transposed) in BLOCK_NAMES.items()
    }
    return MODEL_NAMES | blocks | ({} if tie_weights else {HEAD: ("head.weight", False)})


def load_gpt2(path_or_size: str | Path) -> GPTModel:
    """Load GPT-2, or any model of its architecture, from files on this machine.

    Args:
        path_or_size: a size ("124M", "355M", "774M", "1558M") that `python course.py fetch` has fetched, a Hugging Face
            folder with `config.json` and `model.safetensors`, or a `.safetensors` file, which needs a `config.json`
            beside it unless it has exactly GPT-2's shape.

    Raises:
        ValueError: nothing there, not safetensors, other arithmetic than GPT-2's, or weights missing.

    Source: Radford et al. (2019), released weights. Taught in ch05, section 5.13.
    """
    path = Path(path_or_size)
    if str(path_or_size) in SIZES:
        path = DATA_DIR / "cache" / f"gpt2-{path_or_size}"
        if not path.exists():
            raise ValueError(
                f"GPT-2 {path_or_size} is not on this machine (expected in {path}): "
                f"fetch it once with `python course.py fetch gpt2-{path_or_size}`"
            )
    return read_model(*gpt2_parts(path), "float32")


def gpt2_parts(path: Path) -> tuple[type[GPTModel], GPTConfig, Names, dict[str, Stored]]:
    """Say what is in the files of a GPT-2 before its numbers are read: what `read_model` is given.

    Args:
        path: a folder or `.safetensors` file, see `load_gpt2`.

    Raises:
        ValueError: nothing there, not safetensors, or other arithmetic than GPT-2's.

    Source: Radford et al. (2019), released weights. For ch05, section 5.13.
    """
    tensors = {name: stored for name, stored in list_tensors(path, "transformer.").items() if not _is_mask(name)}
    described = path if path.is_dir() else path.parent
    if path.is_dir() or (described / "config.json").is_file():
        config = read_gpt2_config(described / "config.json")
    else:
        config = _config_from_shapes(tensors, path)
    require_blocks(config.n_layers, tensors)
    return GPTModel, config, gpt2_names(config.n_layers, config.tie_weights), tensors


def _is_mask(name: str) -> bool:
    return name.endswith((".attn.bias", ".attn.masked_bias"))  # stored in old files


def _config_from_shapes(tensors: dict[str, Stored], file: Path) -> GPTConfig:
    """A bare file says everything but the number of heads, so only GPT-2's own four shapes are taken."""
    if "wte.weight" in tensors and "wpe.weight" in tensors:
        shape = (*tensors["wte.weight"].shape, tensors["wpe.weight"].shape[0])
        for config in map(GPTConfig.gpt2, SIZES):
            if shape == (config.vocab_size, config.d_model, config.context_length):
                return config
    raise ValueError(f"{file} is not one of GPT-2's own sizes: give its folder, where config.json tells the heads")


# ---------------------------------------------------------------- the other way


def export_hugging_face(model: GPTModel, tokenizer: BPETokenizer | PublishedTokenizer, folder: str | Path) -> Path:
    """Write a folder that the `AutoModelForCausalLM` and `AutoTokenizer` of transformers open, with our logits and ids.

    Args:
        model: a `GPTModel`, which becomes a GPT-2, or a `ModernGPT`, which becomes a Llama, a Qwen2 or, with norms on
            queries and keys, a Qwen3; compiled or not. Biases that the family always has are written as zeros.
        tokenizer: the one whose ids it reads: a BPETokenizer with an <|endoftext|>, or a PublishedTokenizer, whose
            chat template is written, too; transformers then obeys a special token that somebody types in a message.
        folder: replaced as a whole when it is there already.

    Raises:
        ValueError: these files cannot hold this model or tokenizer, the tokenizer has more tokens than the model has
            embeddings, or the folder cannot be written.

    Source: the file layout of the transformers library. Taught in ch05, section 5.13.
    """
    about = class_and_config(inner := bare(model))
    refuse_other(inner, lambda: build_model(about))
    assert isinstance(inner, GPTModel)
    config, ends = inner.config, _ends(tokenizer)
    require_tokens(tokenizer.vocab_size, config.vocab_size)
    described = family_config(config) if isinstance(config, ModernConfig) else gpt2_config(config)
    files = {
        "config.json": json_bytes(described | ends | {"dtype": "float32"}),
        "generation_config.json": json_bytes(ends),
        "model.safetensors": tensors_to_bytes(_their_tensors(inner, described), metadata={"format": "pt"}),
    }
    return write_folder(folder, files | _tokenizer_files(tokenizer, config))


def _ends(tokenizer: BPETokenizer | PublishedTokenizer) -> dict[str, int | list[int] | None]:
    """Where texts begin and end, and what fills up short rows."""
    specials = getattr(tokenizer, "special_tokens", {})
    if isinstance(tokenizer, PublishedTokenizer):
        begin, pad = (specials.get(tokenizer.names.get(name, "")) for name in ("bos_token", "pad_token"))
        return {"bos_token_id": begin, "eos_token_id": list(tokenizer.end_ids) or None, "pad_token_id": pad}
    if "<|endoftext|>" not in specials or not hasattr(tokenizer, "merges"):
        found = type(tokenizer).__name__
        raise ValueError(f"found a {found}; expected a BPETokenizer with <|endoftext|>: train one with SPECIAL_TOKENS")
    end = specials["<|endoftext|>"]
    return {"bos_token_id": end, "eos_token_id": end, "pad_token_id": specials.get("<|pad|>", end)}


def _their_tensors(model: GPTModel, described: dict) -> dict[str, Tensor]:
    """Our numbers by their names, with zeros for a bias that only the family has."""
    config, numbers, tensors = model.config, rounded(dict(model.named_parameters()), "float32"), {}
    if isinstance(config, ModernConfig):
        config = modern_config(described)
        names, prefix = modern_names(config), PREFIX
    else:
        config = dataclasses.replace(config, qkv_bias=True)
        names, prefix = gpt2_names(config.n_layers, config.tie_weights), "transformer."
    shapes = {name: parameter.shape for name, parameter in empty_model(type(model), config).named_parameters()}
    for theirs, (ours, transposed) in names.items():
        weights = numbers[ours] if ours in numbers else torch.zeros(shapes[ours])
        name = theirs if theirs == HEAD else prefix + theirs
        tensors[name] = (weights.mT if transposed else weights).cpu().contiguous()
    return tensors


def _tokenizer_files(tokenizer: BPETokenizer | PublishedTokenizer, config: GPTConfig) -> dict[str, bytes]:
    if isinstance(tokenizer, PublishedTokenizer):
        return tokenizer.files(config.context_length)
    about = _their_tokenizer_config(config, "<|pad|>" in tokenizer.special_tokens)
    return {"tokenizer.json": json_bytes(_their_tokenizer(tokenizer)), "tokenizer_config.json": json_bytes(about)}


def _their_tokenizer(tokenizer: BPETokenizer) -> dict:
    """Byte-pair encoding as the tokenizers library writes it: each byte stands as one printable character."""
    letters = _byte_letters()
    parts = tokenizer.tokens[: 256 + len(tokenizer.merges)]

    def spell(part: bytes) -> str:
        return "".join(letters[byte] for byte in part)

    return {
        "version": "1.0",
        "added_tokens": [
            {"id": id_, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for token, id_ in tokenizer.special_tokens.items()
        ],
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": GPT2_PATTERN}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
            ],
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": {
            "type": "BPE",
            "vocab": {spell(part): id_ for id_, part in enumerate(parts)} | tokenizer.special_tokens,
            "merges": [[spell(first), spell(second)] for first, second in tokenizer.merges],
        },
    }  # fmt: skip


def _their_tokenizer_config(config: GPTConfig, has_pad: bool) -> dict:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.context_length,
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|pad|>" if has_pad else "<|endoftext|>",
        "split_special_tokens": True,  # a special token typed by a user stays ordinary text
        "clean_up_tokenization_spaces": False,
    }


def _byte_letters() -> dict[int, str]:
    """GPT-2's way to print bytes: visible Latin-1 characters stand for themselves, the others for letters from 256."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
