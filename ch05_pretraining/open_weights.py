"""Published models in the course's own code: from a Hugging Face folder, a GGUF file, or what `fetch` has brought.

GPT-2, Llama, Mistral, Qwen, OLMo and Gemma differ in names and settings, not in what chapter 4 teaches: `families.py`
has the settings and names, `weight_files.py` reads the numbers, `gguf_files.py` the files of llama.cpp.

References: Touvron et al. (2023), "LLaMA"; Ben Allal et al. (2025), "SmolLM2". For ch04, section M.8.
"""

import os
from pathlib import Path

import torch

from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT
from ch05_pretraining.families import FAMILIES, PREFIX, model_class, modern_config, modern_names
from ch05_pretraining.gguf_files import load_gguf, read_gguf_config
from ch05_pretraining.gguf_format import GGUFFile
from ch05_pretraining.gpt2_config import read_config
from ch05_pretraining.hugging_face import gpt2_parts
from ch05_pretraining.published_tokenizers import PublishedTokenizer
from ch05_pretraining.weight_files import (
    Names,
    Stored,
    empty_model,
    list_tensors,
    read_model,
    require_blocks,
    require_tokens,
)
from data.paths import CACHE_DIR

OLD_ANGLES = "rotary_emb.inv_freq"  # stored in old files of Llama 2; config.json says the same
FETCHED = {"smollm2": "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}  # name -> place in the cache
PUBLISHED = ("config.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
OURS = {"recipe.json", "optimizer.safetensors"}  # in folders of `save_model` and in checkpoints


def load_pretrained(source: str | Path, dtype: str = "float32") -> tuple[GPTModel, PublishedTokenizer]:
    """Load a published model and its tokenizer from files on this machine; the model is in evaluation mode.

    Llama 2, TinyLlama, Mistral 7B and Gemma 3 have a tokenizer of another kind (SentencePiece); it is read from
    `tokenizer.json`, and refused by its name where a folder has `tokenizer.model` alone or a file is GGUF. Then
    `load_hugging_face` opens the model of a folder without it.

    Args:
        source: "smollm2", once `python course.py fetch smollm2` has fetched it; a Hugging Face folder with
            `config.json`, safetensors files and `tokenizer.json`; or a `.gguf` file.
        dtype: precision in which the model computes: "float32", "bfloat16", "float16" or "float64".

    Raises:
        ValueError: nothing there, a model that ours cannot compute, files that do not fit, or too little memory.

    Source: Touvron et al. (2023), section 2.2. For ch04, section M.8.
    """
    path = _place(source)
    if not path.is_dir():
        return load_gguf(path, dtype)
    parts = model_parts(path)
    tokenizer = PublishedTokenizer.from_folder(path)
    try:
        require_tokens(tokenizer.vocab_size, parts[1].vocab_size)
    except ValueError as error:
        raise ValueError(f"{error}; the folder is {path}") from error
    return read_model(*parts, dtype), tokenizer


def load_hugging_face(folder: str | Path, dtype: str = "float32") -> GPTModel:
    """Load the model of a Hugging Face folder without its tokenizer, which may be of a kind that ours is not.

    Args:
        folder: holds `config.json` and the safetensors files of a GPT-2, Llama, Mistral, Qwen2, Qwen3, OLMo 2, OLMo 3
            or Gemma 3 (its models of text alone).
        dtype: see `load_pretrained`.

    Raises:
        ValueError: see `load_pretrained`.

    Source: Touvron et al. (2023), section 2.2. For ch04, section M.8.
    """
    return read_model(*model_parts(Path(folder)), dtype)


def model_parts(folder: Path) -> tuple[type[GPTModel], GPTConfig, Names, dict[str, Stored]]:
    """Say what is in a Hugging Face folder before its numbers are read: what `read_model` is given.

    Args:
        folder: see `load_hugging_face`.

    Raises:
        ValueError: another architecture, or a value in `config.json` that our model does not compute with.

    Source: the file layout of the transformers library. For ch04, section M.8.
    """
    families = "GPT-2, Llama, Mistral, Qwen2, Qwen3, OLMo 2, OLMo 3 or Gemma 3"
    file, kinds = folder / "config.json", ["gpt2", *FAMILIES]
    if read_config(file, lambda theirs: theirs["model_type"], families, kinds) == "gpt2":
        return gpt2_parts(folder)
    config = read_config(file, modern_config, families, kinds)
    tensors = {name: stored for name, stored in list_tensors(folder, PREFIX).items() if not name.endswith(OLD_ANGLES)}
    require_blocks(config.n_layers, tensors)
    return model_class(config), config, modern_names(config), tensors


def _place(source: str | Path) -> Path:
    path = CACHE_DIR / FETCHED[source] if source in FETCHED else Path(source)
    if source in FETCHED and not path.is_file():
        fetch = f"fetch it once with `python course.py fetch {source}`"
        raise ValueError(f"{source} is not on this machine (expected in {path}): {fetch}")
    if not (path.is_file() or path.is_dir()):
        raise ValueError(
            f"there is no model under {str(source)!r}: give {' or '.join(FETCHED)}, the folder of a model with "
            "config.json, or a .gguf file"
        )
    if path.is_dir() and not (path / "config.json").is_file() and (found := sorted(path.glob("*.gguf"))):
        raise ValueError(f"{path} has no config.json, but {found[0].name}: give that file")
    if path.suffix == ".safetensors":
        raise ValueError(f"{path} holds numbers and not what they mean: give its folder, with config.json")
    return path


def is_pretrained(source: str | Path) -> bool:
    """Say whether something names a published model, and not one that the course has made.

    Args:
        source: a name that `load_pretrained` knows, any file, the name of a `.gguf` file that need not be there, or a
            publisher's folder, be it whole or not; runs, and folders that
            `save_model` wrote, are the course's.

    Source: this course. For ch04, section M.8.
    """
    if not isinstance(source, (str, Path)):  # a number, too, may stand for an open file
        return False
    if source in FETCHED or os.path.isfile(source) or str(source).endswith(".gguf"):
        return True
    names = set(os.listdir(source)) if os.path.isdir(source) else set()
    weights = any(name in PUBLISHED or name.endswith(".gguf") for name in names)
    return weights and not names & OURS


def pretrained_bytes(source: str | Path, dtype: str = "float32") -> int:
    """Say how much memory the numbers of a published model take, before they are read.

    Args:
        source: see `load_pretrained`.
        dtype: see `load_pretrained`.

    Raises:
        ValueError: nothing there, or a model that ours cannot compute.

    Source: this course. For ch04, section M.8.
    """
    path = _place(source)
    class_, config = model_parts(path)[:2] if path.is_dir() else _gguf_shape(path)
    return empty_model(class_, config).n_parameters * getattr(torch, dtype).itemsize


def _gguf_shape(path: Path) -> tuple[type[GPTModel], GPTConfig]:
    config = read_gguf_config(GGUFFile(path))
    return ModernGPT if isinstance(config, ModernConfig) else GPTModel, config
