"""Numbers on disk: the safetensors files of a published model, looked at as a whole and read one tensor at a time.

Names, shapes and kinds of numbers stand in a file's header, so what does not fit is refused before a number is read. A
model is then built without memory for its numbers, and each tensor takes its place as it is read: the largest amount of
memory in use is that of the model and one tensor. Only safetensors are read: a pickle can run code.

References: the safetensors format; the file layout of the transformers library. For ch05, section 5.13.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.free_memory import free_memory
from data.durable_folders import few

PRECISIONS = ("float32", "bfloat16", "float16", "float64")
UNQUANTIZED = {"F64", "F32", "F16", "BF16"}  # as the headers call them
HEAD = "lm_head.weight"  # in the files of all families
ROWS = 4096  # that are compared at once
PICKLE, PICKLES = b"\x80", (".bin", ".pt", ".pth")  # how one begins, unless it is zipped; how its name ends
FOREIGN = {  # how files begin that are taken for weights -> what they are
    b"<": "is a web page, not a model: the download went wrong, fetch it again",
    b"version https://git-lfs": "is the address of a large file, not the file: fetch it with git lfs pull",
    PICKLE: "is a pickle, which can run code when opened: get the model as .safetensors or .gguf instead",
}
Names = dict[str, tuple[str, bool]]  # name in the file -> our name, stored transposed?


class Stored(NamedTuple):
    """Where a tensor lies and what it is, as the header of its file says.

    Args:
        file: the file.
        name: its name there.
        shape: its shape there.
        kind: what its numbers are: "F32", "BF16", …

    Source: the safetensors format.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    kind: str


def list_tensors(path: str | Path, prefix: str) -> dict[str, Stored]:
    """List the tensors of a model by their names, from the headers of its files alone.

    Args:
        path: a `.safetensors` file, or a folder with `model.safetensors` or with several files and
            `model.safetensors.index.json`.
        prefix: beginning of the names that some files leave out; it is taken off.

    Raises:
        ValueError: a file is missing, damaged or of another kind, or a name stands in two places.

    Source: the file layout of the transformers library. For ch05, section 5.13.
    """
    found: dict[str, Stored] = {}
    for file in _files(Path(path)):
        with _opened(file) as opened:
            for name in opened.keys():
                bare = name.removeprefix(prefix)
                if bare in found:
                    raise ValueError(f"{file} holds {bare}, and so does {found[bare].file}: get these files again")
                part = opened.get_slice(name)
                found[bare] = Stored(file, name, tuple(part.get_shape()), part.get_dtype())
    return found


def _files(path: Path) -> list[Path]:
    """The files that hold a model's numbers: one, or those that the index lists."""
    single, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if not path.is_dir():
        return [path]
    if single.is_file():
        return [single]
    if not index.is_file():
        _refuse_other_files(path)
        return [single]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError(f"its files are {names}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{index} does not list the files of a model ({error}): get it again") from error
    if missing := [name for name in names if not (path / name).is_file()]:
        raise ValueError(f"{path} lacks {few(missing)} of the {len(names)} files in {index.name}: get these, too")
    return [path / name for name in names]


def _refuse_other_files(folder: Path) -> None:
    """Say what a folder holds in place of the one file that was expected."""
    if parts := sorted(file.name for file in folder.glob("model-*.safetensors")):
        raise ValueError(
            f"{folder} lacks model.safetensors.index.json, which lists the files {few(parts)}: get it, too"
        )
    if pickles := sorted(file for file in folder.iterdir() if file.suffix in PICKLES):
        raise ValueError(f"{pickles[0]} {FOREIGN[PICKLE]}")


def _opened(file: Path) -> Any:
    if not file.is_file():
        beside = sorted(path.name for path in file.parent.iterdir())[:5] if file.parent.is_dir() else []
        holds = f" (the folder holds {', '.join(beside)})" if beside else ""
        raise ValueError(f"there is no file {file}{holds}: give a folder with config.json and model.safetensors")
    try:
        return safe_open(file, framework="pt")
    except Exception as error:  # the library raises nothing more exact
        with open(file, "rb") as source:
            begin = source.read(64)
        cut = f"is not a whole safetensors file ({error}): fetch it again"
        found = cut if begin[8:9] == b"{" else what_it_is(begin, {b"PK": FOREIGN[PICKLE]}, cut)
        raise ValueError(f"{file} {found}") from error


def what_it_is(begin: bytes, others: dict[bytes, str], otherwise: str) -> str:
    """Say what a file is that does not begin as the weights of a model should.

    Args:
        begin: its first bytes.
        others: kinds of files beside those of `FOREIGN`: how they begin -> what is said of them.
        otherwise: what is said of a file of no known kind.

    Source: this course. For ch05, section 5.13.
    """
    known = (FOREIGN | others).items()
    return next((kind for start, kind in known if begin.lstrip().startswith(start)), otherwise)


# ---------------------------------------------------------------- from the files into a model


def read_model(
    class_: type[GPTModel], config: GPTConfig, names: Names, tensors: dict[str, Stored], dtype: str
) -> GPTModel:
    """Build a model and read its numbers, refusing before that whatever does not fit.

    Args:
        class_: class of the model.
        config: its shape.
        names: each name in the files -> our name, and whether it is stored transposed; the head not, if it is tied.
        tensors: what the files hold, from `list_tensors`.
        dtype: precision in which the model computes: one of PRECISIONS.

    Raises:
        ValueError: a tensor is missing, unknown, quantized, or of another shape; the files hold two unequal heads; a
            number is too large for the precision; or the model is larger than the memory that is free.

    Source: this course. For ch05, section 5.13.
    """
    if dtype not in PRECISIONS:
        raise ValueError(f"dtype={dtype!r} is unknown: use one of {', '.join(PRECISIONS)}")
    model = empty_model(class_, config)
    _refuse_other_tensors(model, names, tensors)
    require_memory(model.n_parameters * getattr(torch, dtype).itemsize)
    if config.tie_weights and HEAD in tensors:
        embedding = next(theirs for theirs, (ours, _) in names.items() if ours == "token_embedding.weight")
        _refuse_two_heads(tensors[HEAD], tensors[embedding])
    return filled(model, ((ours, _read(tensors[theirs], dtype, turned)) for theirs, (ours, turned) in names.items()))


def empty_model(class_: type[GPTModel], config: GPTConfig) -> GPTModel:
    """Build a model without memory for its numbers, in evaluation mode.

    Args:
        class_: class of the model.
        config: its shape.

    Raises:
        ValueError: its numbers are more than PyTorch can count.

    Source: this course. For ch05, section 5.13.
    """
    try:
        with torch.device("meta"):
            return class_(config).eval()
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"the model's sizes are too large for any machine ({config}): take another model") from error


def filled(model: GPTModel, numbers: Iterable[tuple[str, Tensor]]) -> GPTModel:
    """Put numbers into an empty model, which then owns these tensors.

    Args:
        model: from `empty_model`.
        numbers: name and values of each parameter, a shared one once.

    Source: this course. For ch05, section 5.13.
    """
    tied, values = model.config.tie_weights, dict(numbers)
    model.load_state_dict(values | ({"head.weight": values["token_embedding.weight"]} if tied else {}), assign=True)
    if tied:
        model.head.weight = model.token_embedding.weight
    return model


def require_memory(n_bytes: int) -> None:
    """Refuse a model that is larger than the memory that is free.

    Args:
        n_bytes: memory that its numbers take.

    Raises:
        ValueError: less is free.

    Source: this course. For ch05, section 5.13.
    """
    free = free_memory()
    if n_bytes > free:
        raise ValueError(
            f"the model takes {n_bytes / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: close other programs, "
            "load it with dtype='bfloat16' (in a command: --precision bfloat16), or take a smaller model"
        )


def require_tokens(n_tokens: int, n_rows: int) -> None:
    """Refuse a tokenizer with ids that its model has no embedding for.

    Args:
        n_tokens: size of the tokenizer's vocabulary.
        n_rows: number of embeddings; more than there are tokens are usual.

    Raises:
        ValueError: fewer embeddings than tokens.

    Source: this course. For ch05, section 5.13.
    """
    if n_tokens > n_rows:
        raise ValueError(
            f"found {n_tokens} tokens and {n_rows} embeddings; expected one for each: take the model's own tokenizer"
        )


def require_blocks(n_layers: int, tensors: dict[str, Stored]) -> None:
    """Refuse a config with more blocks than its files can hold, before so many are built.

    Args:
        n_layers: number of blocks that the config says.
        tensors: what the files hold, from `list_tensors`.

    Raises:
        ValueError: fewer tensors than blocks.

    Source: this course. For ch05, section 5.13.
    """
    if n_layers > len(tensors):
        raise ValueError(
            f"config.json says {n_layers} blocks and the files hold {len(tensors)} tensors, expected several for each "
            "block: config and weights are of two models, get both again"
        )


def _refuse_other_tensors(model: GPTModel, names: Names, tensors: dict[str, Stored]) -> None:
    where = next(iter(tensors.values())).file.parent if tensors else "the file"
    missing, unknown = sorted(names.keys() - tensors.keys()), sorted(tensors.keys() - names.keys() - {HEAD})
    for odd, how in ((missing, "missing"), (unknown, "unknown")):
        if odd:
            raise ValueError(f"{where}: {few(odd)} {how}, so config.json and weights are of two models: get both again")
    parameters = dict(model.named_parameters())
    for theirs, (ours, turned) in names.items():
        stored, expected = tensors[theirs], tuple((parameters[ours].mT if turned else parameters[ours]).shape)
        if stored.kind not in UNQUANTIZED:
            raise ValueError(f"{stored.file}: {theirs} holds {stored.kind}, so it is quantized: get it unquantized")
        if stored.shape != expected:
            raise ValueError(
                f"{stored.file}: {theirs} has shape {stored.shape} where config.json leads us to expect {expected}: "
                "config and weights are of two models"
            )


def _refuse_two_heads(head: Stored, embedding: Stored) -> None:
    """Versions of transformers differ on which of two heads counts, so the files must not hold a second one."""
    equal = head.shape == embedding.shape
    with _opened(head.file) as first, _opened(embedding.file) as second:
        a, b = first.get_slice(head.name), second.get_slice(embedding.name)
        parts = (slice(start, start + ROWS) for start in range(0, head.shape[0], ROWS))
        if not equal or not all(torch.equal(a[part].double(), b[part].double()) for part in parts):
            raise ValueError(
                f"{head.file} holds a head of its own ({HEAD}), but tie_word_embeddings says that the head shares the "
                "embedding's weights: set it to false in config.json, or take the head out of the file"
            )


def _read(stored: Stored, dtype: str, transposed: bool) -> Tensor:
    with _opened(stored.file) as file:  # opened for each tensor, so that what was read is let go
        there = file.get_tensor(stored.name)
        own = (there.mT if transposed else there).to(
            getattr(torch, dtype), copy=True, memory_format=torch.contiguous_format
        )
    if not own.isfinite().all():
        raise ValueError(f"{stored.file}: {stored.name} holds numbers that are not finite in {dtype}: use 'float32'")
    return own
