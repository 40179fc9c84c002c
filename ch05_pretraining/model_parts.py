"""What a file of numbers does not say: the class of a model and the settings of its parts.

Two models may hold the same numbers in the same shapes and still compute different things, because one has other heads
or another layer in some place. So a folder keeps the class and the config beside the numbers, and a model is only
written when these two, built anew, give the same model part by part.

Left out: classes of the learner's own, whose code a folder of numbers cannot carry. Taught in ch05, section 5.12.
"""

import re
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT
from ch04_gpt_model.recent_gpt import RecentConfig, RecentGPT

MODEL_CLASSES: dict[str, tuple[type[GPTModel], type[GPTConfig]]] = {
    "GPTModel": (GPTModel, GPTConfig),
    "ModernGPT": (ModernGPT, ModernConfig),
    "RecentGPT": (RecentGPT, RecentConfig),
}
PLAIN = (bool, int, float, str, type(None))
DROPOUT = {"dropout", "p"}  # acts in training only, so a checkpoint may go on with another one


def bare(model: nn.Module) -> nn.Module:
    """Take off what `torch.compile` and data-parallel training put around a model.

    Args:
        model: any module.

    Source: this course.
    """
    while isinstance(model, (nn.DataParallel, DistributedDataParallel)) or hasattr(model, "_orig_mod"):
        inner = model._orig_mod if hasattr(model, "_orig_mod") else model.module
        assert isinstance(inner, nn.Module)
        model = inner
    return model


def class_and_config(model: nn.Module) -> dict:
    """Describe a GPT by its class and its config, as JSON can hold them.

    Args:
        model: a `GPTModel`, a `ModernGPT` or a `RecentGPT`, not of a class made from one of them.

    Raises:
        ValueError: the model is of another class.

    Source: this course.
    """
    known = {_path(class_): name for name, (class_, _) in MODEL_CLASSES.items()}
    if _path(type(model)) not in known:
        raise ValueError(
            f"found a model of the class {_path(type(model))}, expected one of {', '.join(known)}: use save_classifier "
            "or save_finetuned for what chapter 6 builds around a GPT, and save_checkpoint for a class of your own"
        )
    assert isinstance(model, GPTModel)
    return {"class": known[_path(type(model))], **model.config.to_dict()}


def build_model(about: dict) -> GPTModel:
    """Build the model that `class_and_config` described, with new random weights.

    Args:
        about: what `class_and_config` gave; without a class, as in older folders, it is a `GPTModel`.

    Raises:
        ValueError: the class or a setting is unknown.

    Source: this course.
    """
    config = dict(about)
    name = config.pop("class", "GPTModel")
    if opener := config.get("opened_by", "load_classifier" if "labels" in config else None):
        raise ValueError(f"it holds what {opener} opens")
    if name not in MODEL_CLASSES:
        raise ValueError(f"the class {name!r} is not one of {', '.join(MODEL_CLASSES)}")
    class_, config_class = MODEL_CLASSES[name]
    return class_(config_class.from_dict(config))


def refuse_other(model: nn.Module, build: Callable[[], nn.Module]) -> None:
    """Refuse a model that is not, part by part, what its description builds.

    Args:
        model: the model to be kept.
        build: builds a model from the description; it is called without memory for the numbers.

    Raises:
        ValueError: a part has another class or setting, or was added or taken away; or there are no numbers.

    Source: this course.
    """
    if any(tensor.is_meta for tensor in model.parameters()):
        raise ValueError("the model is on the device 'meta', so it has no numbers to keep: load or train it first")
    with torch.device("meta"):
        expected = _parts(build())
    found = _parts(model)
    for name in found | expected:
        if found.get(name) != expected.get(name):
            raise ValueError(
                f"the model is not what its class and config build: {name} is {found.get(name, 'missing')}, expected "
                f"{expected.get(name, 'nothing')}; undo this, or for LoRA layers call merge_lora(model) first, or keep "
                "them with save_finetuned"
            )


def settings_of(model: nn.Module) -> dict[str, object]:
    """Collect what decides the arithmetic of the course's own layers beside their numbers: "part.setting" -> value.

    Args:
        model: any module; parts of other classes are passed over, for they may count something of their own.

    Source: this course.
    """
    return {
        f"{name}.{key}".lstrip("."): list(value) if isinstance(value, tuple) else value  # as JSON gives it back
        for name, part in bare(model).named_modules()
        if re.match(r"ch\d\d_", type(part).__module__)
        for key, value in _public(part)
        if _is_plain(value) and key not in DROPOUT
    }


def _parts(model: nn.Module) -> dict[str, str]:
    """Name every part, setting, hook and tensor of a model, each with what it is."""
    parts = {}
    for name, part in model.named_modules():
        parts[name or "the model"] = _path(type(part))
        for key, value in _public(part):
            parts[f"{name}.{key}".lstrip(".")] = repr(value) if _is_plain(value) else _path(type(value))
        for hooks in ("_forward_hooks", "_forward_pre_hooks"):
            if getattr(part, hooks):
                parts[f"{name}{hooks}".lstrip(".")] = "there"
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        parts[name] = f"a tensor of shape {tuple(tensor.shape)}"
    return parts


def _is_plain(value: object) -> bool:
    return all(isinstance(one, PLAIN) for one in (value if isinstance(value, tuple) else [value]))


def _public(part: nn.Module) -> list[tuple[str, object]]:
    return [(key, value) for key, value in vars(part).items() if not key.startswith("_") and key != "training"]


def _path(class_: type) -> str:
    return f"{class_.__module__}.{class_.__qualname__}"
