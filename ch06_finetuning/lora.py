"""LoRA: fine-tune a model by learning a thin correction beside each frozen matrix.

A full matrix W of D x D weights stays as it is; beside it two thin ones, A (r x D) and B (D x r), learn what to add:
W x + (alpha / r) B A x. B starts at zero, so the model starts exactly where it was, and after training the product can
be added into W, so the merged model costs nothing extra.

References: Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models".
"""

import math

import torch
from torch import Tensor, nn

__all__ = ["LoRALinear", "apply_lora", "merge_lora"]

LORA_TARGETS = ("qkv_proj", "out_proj", "up_proj", "down_proj")


class LoRALinear(nn.Module):
    """A frozen linear layer with a trainable low-rank correction beside it.

    Args:
        linear: the layer to correct; its weights are frozen.
        rank: width r of the two thin matrices, at least 1.
        alpha: strength; the correction is scaled by alpha / rank.
        generator: source of A's random start.

    Shape:
        x (..., D_in) -> (..., D_out).

    Raises:
        ValueError: `rank` is below 1 or above the smaller side of the matrix.

    Source: Hu et al. (2021), section 4.1. Taught in ch06, section 6.12.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None):
        super().__init__()
        d_out, d_in = linear.weight.shape
        if not 1 <= rank <= min(d_in, d_out):
            raise ValueError(f"rank={rank} does not fit a {d_out} x {d_in} matrix: choose 1 to {min(d_in, d_out)}")
        self.linear = linear.requires_grad_(False)
        self.scale = alpha / rank
        start = torch.randn(rank, d_in, generator=generator) / math.sqrt(d_in)
        self.lora_a = nn.Parameter(start.to(linear.weight))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(d_out, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.scale * (x @ self.lora_a.T @ self.lora_b.T)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Add the correction into the frozen weight and return the plain layer."""
        self.linear.weight += self.scale * (self.lora_b @ self.lora_a)
        return self.linear.requires_grad_(True)


def apply_lora(model: nn.Module, rank: int, alpha: float, *, targets=LORA_TARGETS, seed: int = 0) -> nn.Module:
    """Freeze a model and put a LoRA correction beside each of its named linear layers, in place.

    Args:
        model: a GPTModel, or a module that holds one.
        rank: width of the corrections, at least 1.
        alpha: strength; corrections are scaled by alpha / rank.
        targets: attribute names of the linear layers to correct.
        seed: seed of the random matrices A.

    Raises:
        ValueError: the model has no such layer, or has LoRA layers already.

    Source: Hu et al. (2021), section 4.1. Taught in ch06, section 6.12.
    """
    if any(isinstance(module, LoRALinear) for module in model.modules()):
        raise ValueError("the model has LoRA layers already: call merge_lora(model) first")
    places = _places(model, lambda name, module: name in targets and isinstance(module, nn.Linear))
    if not places:
        raise ValueError(f"the model has no linear layer named {' or '.join(targets)}: pass its names as targets=(...)")
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for parent, name, linear in places:
        setattr(parent, name, LoRALinear(linear, rank, alpha, generator))
    return model


def merge_lora(model: nn.Module) -> nn.Module:
    """Add every LoRA correction into its matrix, in place, and make all weights trainable again.

    Source: Hu et al. (2021), section 4.1. Taught in ch06, section 6.12.
    """
    for parent, name, lora in _places(model, lambda name, module: isinstance(module, LoRALinear)):
        setattr(parent, name, lora.merged())
    return model.requires_grad_(True)


def _places(model: nn.Module, wanted) -> list[tuple[nn.Module, str, nn.Module]]:
    return [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if wanted(name, child)
    ]
