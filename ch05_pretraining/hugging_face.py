"""Weights that travel: read GPT-2 as its authors saved it, write our GPT so that others can open it.

One table pairs GPT-2's names with ours and says which weights lie transposed: GPT-2 was written with a
"Conv1D" layer that stores (in, out) where a linear layer stores (out, in). One of the four is square, so
its shape alone cannot betray a forgotten transpose. Only safetensors are read: a pickle can run code.

Left out: other architectures (`open_weights.py` reads some), downloads (`python course.py fetch gpt2-124M`).
References: Radford et al. (2019); the file layout of the transformers library. Taught in ch05, section 5.13.
"""

from pathlib import Path

import torch
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from ch02_text_data.bpe import GPT2_PATTERN
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.gpt2_config import gpt2_config, read_gpt2_config
from ch05_pretraining.model_parts import bare, build_model, class_and_config, refuse_other
from ch05_pretraining.saved_models import rounded
from ch05_pretraining.weight_files import HEAD, Names, Stored, list_tensors, read_model
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


def gpt2_names(n_layers: int) -> Names:
    """Give the name table of a whole GPT-2: its name -> (our name, stored transposed).

    Args:
        n_layers: number of blocks.

    Source: Radford et al. (2019), released weights. Taught in ch05, section 5.13.
    """
    blocks = {
        f"h.{i}.{theirs}": (f"blocks.{i}.{ours}", transposed)
        for i in range(n_layers)
        for theirs, (ours, transposed) in BLOCK_NAMES.items()
    }
    return MODEL_NAMES | blocks


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
    head: Names = {} if config.tie_weights else {HEAD: ("head.weight", False)}
    return GPTModel, config, gpt2_names(config.n_layers) | head, tensors


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


def export_hugging_face(model: GPTModel, tokenizer: BPETokenizer, folder: str | Path) -> Path:
    """Write a folder that `transformers.GPT2LMHeadModel` and `AutoTokenizer` open, with the same logits and ids.

    Args:
        model: a `GPTModel`, compiled or not; where it has no qkv bias, zeros are written.
        tokenizer: the BPETokenizer it was trained with, with an <|endoftext|>.
        folder: replaced as a whole when it is there already.

    Raises:
        ValueError: GPT-2's files cannot hold this model or tokenizer, or the folder cannot be written.

    Source: the file layout of the transformers library. Taught in ch05, section 5.13.
    """
    _refuse_what_gpt2_cannot_hold(inner := bare(model), tokenizer)
    assert isinstance(inner, GPTModel)
    specials = tokenizer.special_tokens
    end, pad = specials["<|endoftext|>"], specials.get("<|pad|>", specials["<|endoftext|>"])
    files = {
        "config.json": json_bytes(gpt2_config(inner.config, end, pad)),
        "generation_config.json": json_bytes({"bos_token_id": end, "eos_token_id": end, "pad_token_id": pad}),
        "model.safetensors": tensors_to_bytes(_their_tensors(inner), metadata={"format": "pt"}),
        "tokenizer.json": json_bytes(_their_tokenizer(tokenizer)),
        "tokenizer_config.json": json_bytes(_their_tokenizer_config(inner.config, "<|pad|>" in specials)),
    }
    return write_folder(folder, files)


def _refuse_what_gpt2_cannot_hold(model: nn.Module, tokenizer: BPETokenizer) -> None:
    about = class_and_config(model)
    if about["class"] != "GPTModel":
        raise ValueError(f"GPT-2's files hold a GPTModel, and this is a {about['class']}: keep it with save_model")
    refuse_other(model, lambda: build_model(about))
    if "<|endoftext|>" not in getattr(tokenizer, "special_tokens", {}) or not hasattr(tokenizer, "merges"):
        found = type(tokenizer).__name__
        raise ValueError(f"found a {found}; expected a BPETokenizer with <|endoftext|>: train one with SPECIAL_TOKENS")


def _their_tensors(model: GPTModel) -> dict[str, Tensor]:
    config, parameters = model.config, rounded(dict(model.named_parameters()), "float32")
    tensors = {}
    for theirs, (ours, transposed) in gpt2_names(config.n_layers).items():
        weights = parameters.get(ours)
        if weights is None:  # qkv_bias=False: GPT-2 always has one
            weights = torch.zeros(3 * config.d_model)
        tensors[f"transformer.{theirs}"] = (weights.mT if transposed else weights).cpu().contiguous()
    if not config.tie_weights:
        tensors["lm_head.weight"] = parameters["head.weight"].cpu().contiguous()
    return tensors


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
