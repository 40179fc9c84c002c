"""Finished models: saved with their tokenizer and recipe in one folder, found by one rule, and loaded again.

Reference: the safetensors format. Taught in ch05, section 5.12.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load as tensors_from_bytes
from torch import Tensor, nn

from ch02_text_data.encoding_files import KeptTokenizer, tokenizer_from_json, tokenizer_to_json
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.checkpoints import copy_tensors, tensor_bytes, unique_tensors
from ch05_pretraining.model_parts import bare, build_model, class_and_config, refuse_other
from ch05_pretraining.published_tokenizers import FORMAT, PublishedTokenizer
from data.durable_folders import CheckpointError, json_bytes, read_folder, settled, write_folder
from data.paths import DATA_DIR, runs_dir

Model = TypeVar("Model", bound=nn.Module)
StoredTokenizer = KeptTokenizer | PublishedTokenizer  # those that a folder of the course holds

KINDS = {"story_gpt": "story GPT", "classifier": "classifier", "assistant": "assistant"}  # folders of a run
SHIPPED = {"story_gpt": "story_gpt", "assistant": "story_assistant"}  # folders in data/


def save_model(
    folder: str | Path, model: GPTModel, tokenizer: StoredTokenizer, recipe: dict, dtype: str = "float32"
) -> Path:
    """Save a finished model with its tokenizer and recipe in one folder with a manifest.

    What `requires_grad` says is not kept: a loaded model is ready to be trained as a whole.

    Args:
        folder: replaced as a whole when it is there already.
        model: a `GPTModel` or a `ModernGPT`, on any device, compiled or not. What chapter 6 builds around one is for
            `save_finetuned`.
        tokenizer: the BPETokenizer, `tiktoken.Encoding` or PublishedTokenizer whose ids the model reads.
        recipe: how it was made and what it scored; anything JSON can hold.
        dtype: "float32", or "float16" for half the size.

    Raises:
        ValueError: an unknown dtype, or a model that `load_model` could not give back; nothing has been written then.
        CheckpointError: the folder cannot be written.

    Source: this course. Taught in ch05, section 5.12.
    """
    about = class_and_config(bare(model))
    return write_model(folder, about, model, lambda: build_model(about), tokenizer, recipe, dtype)


def load_model(folder: str | Path) -> tuple[GPTModel, StoredTokenizer]:
    """Load a model of the class that was saved, in float32, in evaluation mode, and its tokenizer.

    Args:
        folder: a folder that `save_model` made.

    Raises:
        CheckpointError: the folder is missing, incomplete or damaged, or holds what `load_finetuned` opens.

    Source: this course. Taught in ch05, section 5.12.
    """
    return read_model(folder, lambda about, _: build_model(about))


def load_story_gpt(source: str | Path = "shipped") -> tuple[GPTModel, StoredTokenizer]:
    """Load the story GPT that comes with the course, or the one a run of yours has trained.

    Args:
        source: "shipped", the name of a run, or a folder.

    Raises:
        CheckpointError: there is no such model; the message lists the runs there are.

    Source: this course. Taught in ch05, section 5.7.
    """
    return load_model(find_model(source, "story_gpt"))


def find_model(source: str | Path, kind: str) -> Path:
    """Find the folder of a model by the one rule for all: what comes with the course, a run's name, then a folder.

    Args:
        source: "shipped", the name of a run, or the folder of a run or of a model; a `Path` is always a folder.
        kind: what the model is called in a run: "story_gpt", "classifier" or "assistant".

    Raises:
        CheckpointError: there is no such model; the message lists the runs that have one.

    Source: this course.
    """
    if source == "shipped" and kind in SHIPPED:
        return DATA_DIR / SHIPPED[kind]
    for place in _places(source, kind) if isinstance(source, (str, Path)) and str(source) else []:
        if os.path.isdir(settled(place)):
            return place
    found = sorted(path.parent.name for path in runs_dir().glob(f"*/{kind}"))
    shipped = ", or take 'shipped', which comes with the course" if kind in SHIPPED else ""
    raise CheckpointError(
        f"there is no {KINDS[kind]} under {source!r}, neither as a run's name nor as a folder; runs with one: "
        f"{', '.join(found) or 'none yet'}. Make one with `python course.py run`{shipped}"
    )


def _places(source: str | Path, kind: str) -> list[Path]:
    """Where a model may stand, in the order of the rule; a text that holds a / is no name."""
    path = Path(source)
    in_a_run = [runs_dir() / source / kind] if source == path.name else []
    return [*in_a_run, path / kind, path]


def write_model(
    folder: str | Path, about: dict, model: nn.Module, build: Callable[[], nn.Module], tokenizer: StoredTokenizer,
    recipe: dict, dtype: str = "float32", weights: str = "model.safetensors",
) -> Path:  # fmt: skip
    """Write the folder of a finished model, unless what it says about the model would build another one.

    Args:
        folder: replaced as a whole when it is there already.
        about: the class and the settings of the model, as JSON can hold them.
        model: the model.
        build: builds a model from `about`.
        tokenizer: the tokenizer whose ids the model reads.
        recipe: how it was made.
        dtype: "float32" or "float16".
        weights: name of the file of numbers.

    Raises:
        ValueError: an unknown dtype, or a model that `build` does not build.
        CheckpointError: the folder cannot be written.

    Source: this course.
    """
    model = bare(model)
    refuse_other(model, build)
    files = {
        "config.json": json_bytes(about),
        weights: tensor_bytes(rounded(unique_tensors(model), dtype)),
        "recipe.json": json_bytes(recipe),
        "tokenizer.json": _tokenizer_file(tokenizer).encode("utf-8"),
    }
    return write_folder(folder, files)


def read_model(folder: str | Path, build: Callable[[dict, StoredTokenizer], Model]) -> tuple[Model, StoredTokenizer]:
    """Read the folder of a finished model: -> the model in float32, in evaluation mode, and its tokenizer.

    Args:
        folder: a folder that `write_model` made.
        build: builds the model from what the folder says about it and from the tokenizer.

    Raises:
        CheckpointError: the folder is missing, incomplete or damaged, or `build` does not know what it holds.

    Source: this course.
    """
    folder = Path(folder)
    files = read_folder(folder)
    try:
        tokenizer = _read_tokenizer(files["tokenizer.json"])  # the bytes that the manifest has verified
        model = build(json.loads(files["config.json"]), tokenizer)
        tensors = next(tensors_from_bytes(files[name]) for name in sorted(files) if name.endswith(".safetensors"))
    except Exception as error:
        raise CheckpointError(
            f"{folder} does not hold a model that is opened in this way ({error}); choose another folder"
        ) from error
    copy_tensors(model, tensors, folder)
    return model.eval(), tokenizer


def _tokenizer_file(tokenizer: StoredTokenizer) -> str:
    return tokenizer.to_json() if isinstance(tokenizer, PublishedTokenizer) else tokenizer_to_json(tokenizer)


def _read_tokenizer(content: bytes) -> StoredTokenizer:
    published = f'"format": "{FORMAT}"'.encode() in content[:100]
    return PublishedTokenizer.from_json(content) if published else tokenizer_from_json(content)


def rounded(tensors: dict[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """Give the numbers in the precision of a file, where nothing is lost that was not asked for.

    Args:
        tensors: name -> values.
        dtype: "float32" or "float16".

    Raises:
        ValueError: an unknown dtype, numbers in float64, or numbers that are too large for float16.

    Source: this course.
    """
    if dtype not in ("float16", "float32"):
        raise ValueError(f"dtype={dtype!r} is not a stored precision: use 'float16' or 'float32'")
    shorter = {name: tensor.detach().to(getattr(torch, dtype)) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.float64:
            raise ValueError(f"{name} is in float64, and a folder keeps float32 at most: call model.float() first")
        if not torch.equal(tensor.isfinite(), shorter[name].isfinite()):
            raise ValueError(f"{name} holds numbers too large for dtype='float16': use 'float32'")
    return shorter
