"""Checkpoints: everything that a training needs to go on to the same bits, in a folder that survives a power cut.

A checkpoint is a folder of safetensors (numbers) and JSON (everything else), written by `data/durable_folders.py`.
Nothing is pickled: opening a file from a stranger runs none of their code.

Reference: the safetensors format. Taught in ch05, section 5.12.
"""

import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ch05_pretraining.machine import own_share
from ch05_pretraining.model_parts import bare, settings_of
from data.durable_folders import CheckpointError, few, json_bytes, read_folder, write_folder

KEPT_CHECKPOINTS = 2


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

    def restore(self, model: nn.Module, optimizer: Optimizer | Sequence[Optimizer] | None = None) -> None:
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
                f"{self.folder} holds another model: {few(changed)}; build the model as it was built then"
            )


def save_checkpoint(
    folder: str | Path, step: int, model: nn.Module, optimizer: Optimizer | Sequence[Optimizer] | None = None,
    extra: dict | None = None, best: dict[str, Tensor] | None = None,
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
        "model.safetensors": tensor_bytes(unique_tensors(model)),
        "optimizer.safetensors": tensor_bytes(_optimizer_tensors(optimizers)),
        "state.json": json_bytes(state),
    }
    if best:
        files["best.safetensors"] = tensor_bytes(best)
    written = write_folder(step_folder(folder, step), files)
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


def step_folder(folder: Path, step: int) -> Path:
    """Name the checkpoint of a step."""
    return folder / f"step-{step:08d}"


def part_name(rank: int, world_size: int) -> str:
    """Name the folder in which one of several processes keeps its share of a model."""
    return f"part-{rank + 1}-of-{world_size}"


def read_parts(folder: str | Path) -> dict[str, Tensor]:
    """Put a model together from the shares that several processes have kept, at the newest step that all have.

    Any number of processes may read them; the parts are read one after another, without the optimizer's numbers.

    Args:
        folder: holds part-1-of-N to part-N-of-N, as `train` writes them for a model that `fully_shard` has shared out.

    Shape:
        -> name -> the whole tensor; the shares are rows of it, one after the other.

    Raises:
        CheckpointError: a part is missing or damaged, or the parts have no step in common.

    Source: Zhao et al. (2023), "PyTorch FSDP" (2304.11277). For ch05, section S.6 of its scaling notebook.
    """
    folder = Path(folder)
    sizes = sorted({int(path.name.rsplit("-", 1)[1]) for path in folder.glob("part-*-of-*[0-9]")})
    if len(sizes) != 1:
        found = f"parts of trainings by {' and by '.join(map(str, sizes))} processes" if sizes else "no parts"
        raise CheckpointError(f"{folder} holds {found}, expected those of one training: choose another folder")
    parts = [folder / part_name(rank, sizes[0]) for rank in range(sizes[0])]
    steps = [{path.name for path in list_checkpoints(part)} for part in parts]
    if not (common := set.intersection(*steps)):
        raise CheckpointError(f"{folder}: its {sizes[0]} parts have no step in common, so no model can be put together")
    rows: dict[str, list[Tensor]] = {}
    for part in parts:
        share = _read_checkpoint(part / max(common), with_optimizer=False)
        for name, tensor in share.model.items():
            rows.setdefault(name, []).append(tensor)
    in_shares = share.extra["shared_out"]
    return {name: torch.cat(rows.pop(name)) if name in in_shares else rows.pop(name)[0] for name in list(rows)}


def list_checkpoints(folder: str | Path) -> list[Path]:
    """List the checkpoint folders of a run, newest first.

    Args:
        folder: the checkpoints of one run; it need not exist.

    Source: this course. Taught in ch05, section 5.12.
    """
    folder = Path(folder)
    return sorted(folder.glob("step-????????"), reverse=True) if folder.is_dir() else []


def _read_checkpoint(folder: Path, *, with_optimizer: bool = True) -> Checkpoint:
    files = read_folder(folder, without="" if with_optimizer else "optimizer.safetensors")
    try:
        state = json.loads(files["state.json"])
        model = tensors_from_bytes(files["model.safetensors"])
        optimizer = tensors_from_bytes(files["optimizer.safetensors"]) if with_optimizer else {}
        best = tensors_from_bytes(files["best.safetensors"]) if "best.safetensors" in files else {}
        new = {key: state[key] for key in ("settings", "shapes") if key in state}
        return Checkpoint(state["step"], model, optimizer, state["extra"], folder, best=best, **new)
    except Exception as error:
        raise CheckpointError(f"{folder} is not a training checkpoint ({error}); choose another folder") from error


def tensor_bytes(tensors: dict[str, Tensor]) -> bytes:
    """Give named tensors as the bytes of a safetensors file.

    Args:
        tensors: name -> values, on any device but "meta".

    Raises:
        CheckpointError: a tensor holds no numbers.

    Source: the safetensors format.
    """
    if empty := [name for name, tensor in tensors.items() if tensor.is_meta]:
        raise CheckpointError(f"{few(empty)} lie on the device 'meta', where there are no numbers to keep: load them")
    here = {name: own_share(tensor.detach()) for name, tensor in tensors.items()}
    return tensors_to_bytes({name: tensor.cpu().contiguous() for name, tensor in here.items()})


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Name every parameter and persistent buffer of a model once, shared weights under their first name.

    Args:
        model: any module; what `torch.compile` puts around one has no part in the names.

    Source: this course.
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

    Source: this course.
    """
    own = {name: own_share(tensor) for name, tensor in unique_tensors(model).items()}
    if odd := sorted(own.keys() ^ tensors.keys()):
        raise CheckpointError(f"{source} holds another model: {few(odd)} on one side only; build the same GPTConfig")
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise CheckpointError(
                f"{source} holds another shape: {name} is {tuple(tensors[name].shape)} there and "
                f"{tuple(tensor.shape)} in the model; build the model with the same GPTConfig"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def _as_list(optimizer: Optimizer | Sequence[Optimizer] | None) -> list[Optimizer]:
    if optimizer is None:
        return []
    return [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)


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


def _restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], prefix: str) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = _shared_out_like(parameters[int(index)], value.clone())
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _shared_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """Let what an optimizer keeps of a parameter lie with the processes as the parameter does."""
    if not isinstance(parameter, DTensor) or not value.ndim:
        return value
    there = parameter.device_mesh, parameter.placements
    value = value.to(own_share(parameter).device)
    return DTensor.from_local(value, *there, run_check=False, shape=parameter.shape, stride=parameter.stride())
