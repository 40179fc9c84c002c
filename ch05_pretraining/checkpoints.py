"""Files that survive: checkpoints and models written all at once or not at all.

A checkpoint is a folder of safetensors (numbers) and JSON (everything else) with a manifest of
sha256 hashes. It is written beside its final place, flushed to the disk and renamed in one move,
so a power cut leaves either the old files or the new ones, never half of each. Nothing is pickled:
opening a file from a stranger runs none of their code.

Left out: sharded files and asynchronous saving, which models too large for one disk write need.
References: the safetensors format; Pillai et al. (2014), "All file systems are not created equal".
Taught in ch05, section 5.12.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import tiktoken
import torch
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from ch02_text_data.encoding_files import holds_encoding, read_encoding, write_encoding
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.model_parts import bare, build_model, class_and_config, refuse_other, settings_of
from data.files import replace, write_durably
from data.paths import DATA_DIR, runs_dir

FORMAT = 1
KEPT_CHECKPOINTS = 2
LEFT_BY_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # by programs that only show a folder
KINDS = {"story_gpt": "story GPT", "classifier": "classifier", "assistant": "assistant"}  # folders of a run
SHIPPED = {"story_gpt": "story_gpt", "assistant": "story_assistant"}  # folders in data/


class CheckpointError(ValueError):
    """A checkpoint or model folder cannot be written or trusted; the message names the remedy."""


# ---------------------------------------------------------------- folders that appear all at once


def write_folder(target: str | Path, files: dict[str, bytes]) -> Path:
    """Write a folder of files so that it exists completely or not at all.

    Args:
        target: the folder to make; one that this function made earlier is replaced.
        files: file name -> content. A `manifest.json` with their sha256 is added last.

    Raises:
        CheckpointError: the disk is full, the place cannot be written, or something else lies there; what stood there
            before still stands.

    Source: Pillai et al. (2014), section 2. Taught in ch05, section 5.12.
    """
    target = Path(target)
    _refuse_what_is_not_ours(target, files)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for name, content in files.items():
            write_durably(temporary / name, content)
        write_durably(temporary / "manifest.json", _manifest(files))
        _flush_folder(temporary)
        _replace_folder(temporary, target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(_why_not_written(target, files, error)) from error
    return target


def read_folder(folder: str | Path) -> dict[str, bytes]:
    """Read every file that a folder's manifest lists, refusing the folder if one byte differs.

    Args:
        folder: a folder that `write_folder` made.

    Raises:
        CheckpointError: a file is missing, shortened, changed or of a newer format.

    Source: this course. Taught in ch05, section 5.12.
    """
    folder = _settled(Path(folder))
    files = {}
    for name, expected in _read_manifest(folder)["files"].items():
        content = _read(folder / name)
        if len(content) != expected["bytes"] or hashlib.sha256(content).hexdigest() != expected["sha256"]:
            raise CheckpointError(
                f"{folder / name} is damaged: its {len(content):,} bytes are not those that the manifest lists "
                f"({expected['bytes']:,} bytes); delete this folder and use an older checkpoint, or make it again"
            )
        files[name] = content
    return files


def _refuse_what_is_not_ours(target: Path, files: dict[str, bytes]) -> None:
    """A folder is replaced as a whole, so nothing may lie in it that somebody else has put there."""
    if not target.name:
        raise CheckpointError(f"the folder {str(target)!r} has no name of its own: give the name of a folder to make")
    try:
        ours = set(_read_manifest(target)["files"])
    except CheckpointError:  # none there, or a damaged one that is to be made again
        ours = set()
    there = {path.name for path in target.iterdir()} if target.is_dir() else set()
    if others := sorted(there - ours - files.keys() - {"manifest.json"} - LEFT_BY_SYSTEMS):
        raise CheckpointError(
            f"{target} would be replaced, but it holds what this course did not write ({_few(others)}): choose another "
            "folder, or move these files"
        )


def _manifest(files: dict[str, bytes]) -> bytes:
    listed = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()}
    return _json_bytes({"files": listed, "format": FORMAT})


def _json_bytes(value: object) -> bytes:
    try:
        return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"JSON cannot hold what is to be kept beside the numbers ({error}): give text, numbers, lists and "
            "dictionaries with text as keys"
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}); the folder is incomplete: "
            "delete it and use an older checkpoint, or make it again"
        ) from error


def _read_manifest(folder: Path) -> dict:
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}; check the name, or train or save a model there first")
    if not (folder / "manifest.json").is_file():
        raise CheckpointError(
            f"{folder} has no manifest.json, so this course did not write it, or not to its end: choose another "
            "folder, or make it again"
        )
    content = _read(folder / "manifest.json")
    try:
        manifest = json.loads(content.decode("utf-8"))
        if manifest["format"] > FORMAT:
            raise CheckpointError(
                f"{folder} has format {manifest['format']}, and this code reads formats up to {FORMAT}: "
                "update the course, or make the folder again"
            )
        if not manifest["files"] or content != _json_bytes(manifest):
            raise ValueError("not as it was written")
        for name, entry in manifest["files"].items():
            if Path(name).name != name or set(entry) != {"bytes", "sha256"}:
                raise ValueError("a name or an entry is wrong")
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{folder / 'manifest.json'} is damaged ({error}); delete this folder and use an older checkpoint, "
            "or make it again"
        ) from error
    return manifest


def _flush_folder(folder: Path) -> None:
    """Flush the folder's own entry, which Windows neither allows nor needs."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _replace_folder(temporary: Path, target: Path) -> None:
    """Move a finished folder into place; what stood there waits beside it until the move is done."""
    old = target.with_name(f".{target.name}.old")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        replace(target, old)
    replace(temporary, target)
    _flush_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _settled(folder: Path) -> Path:
    """The folder itself or, when a kill fell between the two renames, the one that stood there before."""
    path = Path(os.path.abspath(folder))
    old = path.parent / f".{path.name}.old"
    return old if os.path.isdir(old) and not os.path.exists(folder) else folder


def _why_not_written(target: Path, files: dict[str, bytes], error: OSError) -> str:
    size = sum(map(len, files.values())) / 1e6
    return (
        f"could not write {target} ({error.strerror or error}); it needs {size:.1f} MB in a folder you may write to: "
        "free some space or choose another folder (what was saved earlier is untouched)"
    )


# ---------------------------------------------------------------- checkpoints of a run


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on: numbers by name, the step, the JSON extras and, if kept, the best weights."""

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    extra: dict
    folder: Path
    settings: dict = field(default_factory=dict)  # of the model's parts; not in folders of earlier versions
    shapes: list | None = None  # of each optimizer's parameters; not in folders of earlier versions
    best: dict[str, Tensor] = field(default_factory=dict)

    def restore(self, model: nn.Module, optimizer=None) -> None:
        """Copy the stored numbers into a model and its optimizer(s).

        Args:
            model: a model of the same shape and settings as the one saved; its dropout may differ.
            optimizer: the same optimizer, or list of optimizers, that was saved; None leaves it out.

        Raises:
            CheckpointError: a name, a shape or a setting differs; nothing has been copied then.

        Source: this course. Taught in ch05, section 5.12.
        """
        optimizers = _as_list(optimizer)
        self._refuse_other_settings(settings_of(model))
        if optimizers and self.shapes not in (None, _shapes(optimizers)):
            raise CheckpointError(
                f"{self.folder} was saved with other optimizers, or with optimizers of other parameters: make them as "
                "they were made then, or leave them out to restore the model alone"
            )
        copy_tensors(model, self.model, self.folder)
        for number, one in enumerate(optimizers):
            _restore_optimizer(one, self.optimizer, f"{number}.")

    def _refuse_other_settings(self, now: dict) -> None:
        both = self.settings.keys() & now.keys()
        changed = [f"{key} was {self.settings[key]!r}, now {now[key]!r}" for key in sorted(both)
                   if self.settings[key] != now[key]]  # fmt: skip
        if changed:
            raise CheckpointError(
                f"{self.folder} holds another model: {_few(changed)}; build the model as it was built then"
            )


def save_checkpoint(
    folder: str | Path, step: int, model: nn.Module, optimizer=None, extra: dict | None = None,
    best: dict[str, Tensor] | None = None,
) -> Path:  # fmt: skip
    """Save the state after `step` steps in `folder/step-…`, keeping the two newest checkpoints.

    Args:
        folder: the checkpoints of one run.
        step: optimizer steps done so far.
        model: a module of any class; its parameters and persistent buffers are stored, shared weights once.
        optimizer: a `torch.optim.Optimizer`, a list of them, or None.
        extra: anything JSON can hold.
        best: the weights of an earlier step that are to be kept, named as `unique_tensors` names them.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written, or the model has no numbers.

    Source: this course. Taught in ch05, section 5.12.
    """
    folder, optimizers = Path(folder), _as_list(optimizer)
    state = {"step": step, "extra": extra or {}, "settings": settings_of(model), "shapes": _shapes(optimizers)}
    files = {
        "model.safetensors": _tensor_bytes(unique_tensors(model)),
        "optimizer.safetensors": _tensor_bytes(_optimizer_tensors(optimizers)),
        "state.json": _json_bytes(state),
    }
    if best:
        files["best.safetensors"] = _tensor_bytes(best)
    written = write_folder(folder / f"step-{step:08d}", files)
    for old in list_checkpoints(folder)[KEPT_CHECKPOINTS:]:
        shutil.rmtree(old, ignore_errors=True)
    return written


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Load the newest checkpoint whose manifest verifies, warning when a newer one had to be passed over.

    Args:
        folder: the checkpoints of one run, or one `step-…` folder.

    Raises:
        CheckpointError: there is no checkpoint, or none that verifies.

    Source: this course. Taught in ch05, section 5.12.
    """
    folder, problems = Path(folder), []
    candidates = [folder] if folder.name.startswith("step-") else list_checkpoints(folder)
    for candidate in candidates:
        try:
            checkpoint = _read_checkpoint(candidate)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if problems:
            warnings.warn(f"fell back to {candidate}: {'; '.join(problems)}", stacklevel=2)
        return checkpoint
    if problems:
        reasons = "; ".join(problems)
        raise CheckpointError(f"no checkpoint in {folder} can be trusted, so delete it and start again: {reasons}")
    raise CheckpointError(f"there is no checkpoint in {folder}; train with checkpoint_dir={str(folder)!r} first")


def list_checkpoints(folder: str | Path) -> list[Path]:
    """List the checkpoint folders of a run, newest first.

    Args:
        folder: the checkpoints of one run; it need not exist.

    Source: this course. Taught in ch05, section 5.12.
    """
    folder = Path(folder)
    return sorted(folder.glob("step-????????"), reverse=True) if folder.is_dir() else []


def _read_checkpoint(folder: Path) -> Checkpoint:
    files = read_folder(folder)
    try:
        state = json.loads(files["state.json"])
        model, optimizer = (tensors_from_bytes(files[f"{name}.safetensors"]) for name in ("model", "optimizer"))
        best = tensors_from_bytes(files["best.safetensors"]) if "best.safetensors" in files else {}
        new = {key: state[key] for key in ("settings", "shapes") if key in state}
        return Checkpoint(state["step"], model, optimizer, state["extra"], folder, best=best, **new)
    except Exception as error:
        raise CheckpointError(f"{folder} is not a training checkpoint ({error}); choose another folder") from error


def _tensor_bytes(tensors: dict[str, Tensor]) -> bytes:
    if empty := [name for name, tensor in tensors.items() if tensor.is_meta]:
        raise CheckpointError(f"{_few(empty)} lie on the device 'meta', where there are no numbers to keep: load them")
    return tensors_to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Name every parameter and persistent buffer of a model once, shared weights under their first name.

    Args:
        model: any module; what `torch.compile` puts around one has no part in the names.

    Source: this course. Taught in ch05, section 5.12.
    """
    model = bare(model)
    persistent = model.state_dict().keys()
    buffers = {name: tensor for name, tensor in model.named_buffers() if name in persistent}
    return {**dict(model.named_parameters()), **buffers}


def copy_tensors(model: nn.Module, tensors: dict[str, Tensor], source: object) -> None:
    """Copy named numbers into a model, refusing missing, extra and differently shaped ones.

    Args:
        model: the module to fill.
        tensors: name -> values, as `unique_tensors` names them.
        source: where they come from, for the message.

    Raises:
        CheckpointError: names or shapes differ.

    Source: this course. Taught in ch05, section 5.12.
    """
    own = unique_tensors(model)
    if odd := sorted(own.keys() ^ tensors.keys()):
        raise CheckpointError(f"{source} holds another model: {_few(odd)} on one side only; build the same GPTConfig")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise CheckpointError(
                f"{source} holds another shape: {name} is {tuple(tensors[name].shape)} there and "
                f"{tuple(tensor.shape)} in the model; build the model with the same GPTConfig"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def _few(names: list[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _as_list(optimizer) -> list:
    return list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer] * (optimizer is not None)


def _shapes(optimizers: list) -> list:
    return [[list(p.shape) for group in one.param_groups for p in group["params"]] for one in optimizers]


def _optimizer_tensors(optimizers: list) -> dict[str, Tensor]:
    """Flatten the moments of one or several optimizers: "optimizer.parameter.name" -> tensor."""
    if odd := [type(one).__name__ for one in optimizers for state in one.state.values()
               for value in state.values() if not isinstance(value, (Tensor, int, float))]:  # fmt: skip
        raise CheckpointError(f"{odd[0]} keeps more than numbers, which a checkpoint cannot hold: save without it")
    return {
        f"{number}.{index}.{name}": torch.as_tensor(value)
        for number, one in enumerate(optimizers)
        for index, state in one.state_dict()["state"].items()
        for name, value in state.items()
    }


def _restore_optimizer(optimizer, tensors: dict[str, Tensor], prefix: str) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value.clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


# ---------------------------------------------------------------- finished models


def save_model(folder: str | Path, model: GPTModel, tokenizer: BPETokenizer, recipe: dict, dtype: str = "float32"):
    """Save a finished model with its tokenizer and recipe in one folder with a manifest.

    What `requires_grad` says is not kept: a loaded model is ready to be trained as a whole.

    Args:
        folder: replaced as a whole when it is there already.
        model: a `GPTModel` or a `ModernGPT`, on any device, compiled or not. What chapter 6 builds around one is for
            `save_finetuned`.
        tokenizer: the BPETokenizer or `tiktoken.Encoding` whose ids the model reads.
        recipe: how it was made and what it scored; anything JSON can hold.
        dtype: "float32", or "float16" for half the size.

    Raises:
        ValueError: an unknown dtype, or a model that `load_model` could not give back; nothing has been written then.
        CheckpointError: the folder cannot be written.

    Source: this course. Taught in ch05, section 5.12.
    """
    about = class_and_config(bare(model))
    return write_model(folder, about, model, lambda: build_model(about), tokenizer, recipe, dtype)


def load_model(folder: str | Path) -> tuple[GPTModel, BPETokenizer]:
    """Load a model of the class that was saved, in float32, in evaluation mode, and its tokenizer.

    Args:
        folder: a folder that `save_model` made.

    Raises:
        CheckpointError: the folder is missing, incomplete or damaged, or holds what `load_finetuned` opens.

    Source: this course. Taught in ch05, section 5.12.
    """
    return read_model(folder, lambda about, _: build_model(about))


def load_story_gpt(source: str | Path = "shipped") -> tuple[GPTModel, BPETokenizer]:
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

    Source: this course. Taught in ch05, section 5.12.
    """
    if source == "shipped" and kind in SHIPPED:
        return DATA_DIR / SHIPPED[kind]
    for place in _places(source, kind) if isinstance(source, (str, Path)) and str(source) else []:
        if os.path.isdir(_settled(place)):
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
    folder: str | Path, about: dict, model: nn.Module, build: Callable[[], nn.Module], tokenizer, recipe: dict,
    dtype: str = "float32", weights: str = "model.safetensors",
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

    Source: this course. Taught in ch05, section 5.12.
    """
    model = bare(model)
    refuse_other(model, build)
    files = {
        "config.json": _json_bytes(about),
        weights: _tensor_bytes(rounded(unique_tensors(model), dtype)),
        "recipe.json": _json_bytes(recipe),
        "tokenizer.json": _tokenizer_bytes(tokenizer, Path(folder)),
    }
    return write_folder(folder, files)


def read_model(folder: str | Path, build: Callable[[dict, BPETokenizer], nn.Module]) -> tuple:
    """Read the folder of a finished model: -> the model in float32, in evaluation mode, and its tokenizer.

    Args:
        folder: a folder that `write_model` made.
        build: builds the model from what the folder says about it and from the tokenizer.

    Raises:
        CheckpointError: the folder is missing, incomplete or damaged, or `build` does not know what it holds.

    Source: this course. Taught in ch05, section 5.12.
    """
    folder = Path(folder)
    files = read_folder(folder)
    try:
        tokenizer = _read_tokenizer(_settled(folder) / "tokenizer.json")
        model = build(json.loads(files["config.json"]), tokenizer)
        tensors = next(tensors_from_bytes(files[name]) for name in sorted(files) if name.endswith(".safetensors"))
    except Exception as error:
        raise CheckpointError(
            f"{folder} does not hold a model that is opened in this way ({error}); choose another folder"
        ) from error
    copy_tensors(model, tensors, folder)
    return model.eval(), tokenizer


def rounded(tensors: dict[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """Give the numbers in the precision of a file, where nothing is lost that was not asked for.

    Args:
        tensors: name -> values.
        dtype: "float32" or "float16".

    Raises:
        ValueError: an unknown dtype, numbers in float64, or numbers that are too large for float16.

    Source: this course. Taught in ch05, section 5.12.
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


def _read_tokenizer(path: Path) -> BPETokenizer | tiktoken.Encoding:
    return read_encoding(path) if holds_encoding(path) else BPETokenizer.load(path)


def _tokenizer_bytes(tokenizer: BPETokenizer | tiktoken.Encoding, folder: Path) -> bytes:
    """The tokenizer's own file, by way of a temporary one beside the target."""
    if not isinstance(tokenizer, (BPETokenizer, tiktoken.Encoding)):
        raise ValueError(
            f"found a tokenizer of the class {type(tokenizer).__name__}, of which this course makes no file: give the "
            "BPETokenizer or the tiktoken.Encoding that the model was trained with"
        )
    path = folder.with_name(f".{folder.name}.tokenizer.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tokenizer.save(path) if isinstance(tokenizer, BPETokenizer) else write_encoding(path, tokenizer)
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(_why_not_written(folder, {}, error)) from error
    finally:
        path.unlink(missing_ok=True)
