"""LoRA: fine-tune a model by learning a thin correction beside each frozen matrix.

A full matrix W of D x D weights stays as it is; beside it two thin ones, A (r x D) and B (D x r), learn what to add:
W x + (alpha / r) B A x. B starts at zero, so the model starts exactly where it was, and after training the product can
be added into W, so the merged model costs nothing extra.

References: Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models".
"""

import math
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.model_parts import build_model, class_and_config

__all__ = ["LoRALinear", "apply_lora", "merge_lora"]

Model = TypeVar("Model", bound=nn.Module)  # what comes in goes out again, changed in place

# the linear layers in the blocks of a GPTModel and of a ModernGPT
LORA_TARGETS = ("qkv_proj", "q_proj", "k_proj", "v_proj", "out_proj", "gate_proj", "up_proj", "down_proj")


class LoRALinear(nn.Module):
    """A frozen linear layer with a trainable low-rank correction beside it.

    Args:
        linear: the layer to correct; its weights are frozen.
        rank: width r of the two thin matrices, at least 1.
        alpha: strength, above 0; the correction is scaled by alpha / rank.
        generator: source of A's random start.

    Shape:
        x (..., D_in) -> (..., D_out).

    Raises:
        ValueError: `rank` is below 1 or above the smaller side of the matrix, or `alpha` is not above 0.

    Source: Hu et al. (2021), section 4.1. Taught in ch06, section 6.12.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None):
        super().__init__()
        d_out, d_in = linear.weight.shape
        if not (isinstance(rank, int) and 1 <= rank <= min(d_in, d_out)):
            raise ValueError(f"rank={rank} does not fit a {d_out} x {d_in} matrix: choose 1 to {min(d_in, d_out)}")
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha={alpha} is not a number above 0: twice the rank is a common choice")
        self.linear = linear.requires_grad_(False)
        self.alpha, self.scale = alpha, alpha / rank
        start = torch.randn(rank, d_in, generator=generator) / math.sqrt(d_in)
        self.lora_a = nn.Parameter(start.to(linear.weight))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(d_out, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.scale * (x @ self.lora_a.T @ self.lora_b.T)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Add the correction into the frozen weight and return the plain layer."""
        self.linear.weight += self.scale * (self.lora_b @ self.lora_a)
        return self.linear


def apply_lora(
    model: Model, rank: int, alpha: float, *, targets: str | Iterable[str] | None = None, seed: int = 0
) -> Model:
    """Freeze a GPT and put a LoRA correction beside each of its named linear layers, in place.

    What is built around a GPT for a new job, such as the head of a classifier, has learned nothing yet, so it stays as
    trainable as it was.

    Args:
        model: a GPTModel or ModernGPT, or a module that holds one as `.model`.
        rank: width of the corrections, at least 1.
        alpha: strength, above 0; corrections are scaled by alpha / rank.
        targets: attribute names of the linear layers to correct, or one name; None means all in the blocks.
        seed: seed of the random matrices A.

    Raises:
        ValueError: a target is not there or shares its weights with another layer, the model has LoRA layers already,
            or `rank` or `alpha` is out of range. The model is left as it was.

    Source: Hu et al. (2021), section 4.1. Taught in ch06, section 6.12.
    """
    if lora_layers(model):
        raise ValueError("the model has LoRA layers already: call merge_lora(model) first")
    inner = getattr(model, "model", None)
    gpt = inner if isinstance(inner, nn.Module) else model
    names = _named_linears(gpt, targets)
    _refuse_shared_weights(gpt, names)
    layers = {name: {"rank": rank, "alpha": alpha} for name in names}
    add_lora_layers(gpt, layers, torch.Generator().manual_seed(seed))
    return model


def merge_lora(model: Model) -> Model:
    """Add every LoRA correction into its matrix, in place, and make trainable again what `apply_lora` froze.

    A model without LoRA layers stays as it is.

    Args:
        model: what `apply_lora` gave.

    Source: Hu et al. (2021), section 4.1. Taught in ch06, section 6.12.
    """
    for name, part in _lora_parts(model).items():
        _replace(model, name, part.merged())
    return _thaw(model)


def lora_layers(model: nn.Module) -> dict[str, dict]:
    """Describe the LoRA layers of a model, as JSON can hold them: name -> rank and alpha.

    Args:
        model: any module.

    Source: Hu et al. (2021), section 4.1.
    """
    return {name: {"rank": len(part.lora_a), "alpha": part.alpha} for name, part in _lora_parts(model).items()}


def learning_parameters(module: nn.Module) -> set[nn.Parameter]:
    """Say what of a module may learn: with LoRA layers in it only their corrections, without any all parameters.

    Args:
        module: a GPT, or a part of one.

    Source: Hu et al. (2021), section 4.1. Taught in ch06, section 6.5.
    """
    layers = _lora_parts(module).values()
    return {thin for layer in layers for thin in (layer.lora_a, layer.lora_b)} or set(module.parameters())


def add_lora_layers(gpt: Model, layers: dict[str, dict], generator: torch.Generator | None = None) -> Model:
    """Freeze a GPT and put LoRA layers in the place of linear ones, as `lora_layers` describes them.

    Args:
        gpt: changed in place.
        layers: name -> rank and alpha.
        generator: source of the random matrices A.

    Raises:
        ValueError: a rank or an alpha is out of range; the model is left as it was.

    Source: Hu et al. (2021), section 4.1.
    """
    _freeze(gpt)
    try:
        made = {name: LoRALinear(_linear(gpt, name), **layer, generator=generator)
                for name, layer in layers.items()}  # fmt: skip
    except ValueError:
        _thaw(gpt)
        raise
    for name, lora in made.items():
        _replace(gpt, name, lora)
    return gpt


def about_gpt(gpt: nn.Module) -> dict:
    """Describe a GPT with or without LoRA layers, as JSON can hold it.

    Args:
        gpt: a GPTModel or ModernGPT.

    Raises:
        ValueError: the model is of another class.

    Source: this course.
    """
    about = class_and_config(gpt)
    layers = lora_layers(gpt)
    return about | ({"lora": layers, "opened_by": "load_finetuned"} if layers else {})


def build_gpt(about: dict) -> GPTModel:
    """Build the GPT that `about_gpt` described, with new random weights.

    Args:
        about: what `about_gpt` gave.

    Raises:
        ValueError: a class or a setting is unknown.

    Source: this course.
    """
    if "lora" not in about:
        return build_model(about)
    gpt = build_model({key: value for key, value in about.items() if key not in ("lora", "opened_by")})
    return add_lora_layers(gpt, about["lora"])


def _lora_parts(model: nn.Module) -> dict[str, LoRALinear]:
    return {name: part for name, part in model.named_modules() if isinstance(part, LoRALinear)}


def _linear(gpt: nn.Module, name: str) -> nn.Linear:
    linear = gpt.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    return linear


def _named_linears(gpt: nn.Module, targets: str | Iterable[str] | None) -> list[str]:
    """Where the targets stand; every name that was asked for must be there."""
    wanted = LORA_TARGETS if targets is None else (targets,) if isinstance(targets, str) else tuple(targets)
    linears = [name for name, part in gpt.named_modules() if isinstance(part, nn.Linear)]
    there = {name.rpartition(".")[2] for name in linears}
    missing = [] if targets is None and there & set(wanted) else [name for name in wanted if name not in there]
    if missing or not wanted:
        raise ValueError(
            f"the model has no linear layer named {' or '.join(missing)}: pass some of its own as targets=(...), "
            f"which are {', '.join(sorted(there))}"
        )
    return [name for name in linears if name.rpartition(".")[2] in wanted]


def _refuse_shared_weights(gpt: nn.Module, names: list[str]) -> None:
    """A correction of one layer must not move another when it is merged."""
    users: dict[int, list[str]] = {}
    for name, parameter in gpt.named_parameters(remove_duplicate=False):
        users.setdefault(id(parameter), []).append(name)
    for name in names:
        if len(both := users[id(_linear(gpt, name).weight)]) > 1:
            raise ValueError(
                f"the layer {name!r} shares its weights ({' = '.join(both)}), so a correction of one would change the "
                "other when it is merged: leave it out of targets, or use a model with tie_weights=False"
            )


def _freeze(model: nn.Module) -> None:
    """Freeze all parameters, noting in each part which of its own were trainable."""
    for part in model.modules():
        trainable = [name for name, p in part.named_parameters(recurse=False) if p.requires_grad]
        vars(part)["_frozen_by_lora"] = trainable
    model.requires_grad_(False)


def _thaw(model: Model) -> Model:
    for part in model.modules():
        for name in vars(part).pop("_frozen_by_lora", ()):
            getattr(part, name).requires_grad_(True)
    return model


def _replace(model: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, part)
