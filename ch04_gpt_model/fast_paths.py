"""The product of a linear layer by another routine: the same sums, on some machines in half the time or less.

A processor reaches its speed only through code written for it, and the library behind `F.linear` is not at its best
everywhere: on some processors it leaves half of the arithmetic idle, and it may read the weights for a single token
with one core. The functions here ask other routines of PyTorch for the same numbers, up to rounding, and `LinearBy`
puts one of them in the place of every `F.linear` without touching the model.

Reference: Goto and van de Geijn (2008), "Anatomy of high-performance matrix multiplication". Taught in ch05, section
S.8 of its scaling notebook.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["LinearBy", "linear_by_columns", "linear_by_convolution", "linear_by_packing"]

PICTURES = 16  # with fewer, PyTorch does not always call the routine that is meant
FEW_ROWS = 32  # with more, arithmetic takes the time and not the reading of the weights


def linear_by_convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `F.linear` as a convolution: each row is a pixel with D colors, the window is one pixel large.

    Args:
        x: the rows.
        weight: one window for each number that comes out.
        bias: added to each row, or None.

    Shape:
        x (..., D), weight (F, D), bias (F,) -> (..., F).

    Source: this course. Taught in ch05, section S.8 of its scaling notebook.
    """
    n_rows = x.numel() // x.shape[-1]
    n_pictures = PICTURES if n_rows % PICTURES == 0 else 1
    pictures = x.reshape(n_pictures, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # (P, D, 1, n / P): colors come first
    out = F.conv2d(pictures, weight[:, :, None, None], bias)  # (P, F, 1, n / P)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def linear_by_columns(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `F.linear` as weight times columns; for a single column the cores share the weights out.

    Args:
        x: the rows; more than 32 of them go to `F.linear`.
        weight: for a single row, cut across into four shares for each core.
        bias: added to each row, or None.

    Shape:
        x (..., D), weight (F, D), bias (F,) -> (..., F).

    Source: this course. Taught in ch05, section S.8 of its scaling notebook.
    """
    columns = x.reshape(-1, x.shape[-1]).T  # (D, n)
    if columns.shape[1] > FEW_ROWS:
        return F.linear(x, weight, bias)
    out = weight @ columns if columns.shape[1] > 1 else _in_shares(weight, columns)  # (F, n)
    rows = out.T if bias is None else out.T + bias
    return rows.reshape(*x.shape[:-1], len(weight))


def _in_shares(weight: Tensor, column: Tensor) -> Tensor:
    """Multiply (F, D) by (D, 1) in pieces that several cores take."""
    n_shares = 4 * torch.get_num_threads()
    even = len(weight) - len(weight) % n_shares
    shares = weight[:even].view(n_shares, -1, len(column))  # (n_shares, F / n_shares, D)
    out = torch.bmm(shares, column.expand(n_shares, -1, -1)).view(even, 1)
    return out if even == len(weight) else torch.cat([out, weight[even:] @ column])


def linear_by_packing(weight: Tensor) -> Callable[..., Tensor]:
    """Copy a weight once into the order in which another library reads it, and give `F.linear` with that copy.

    It pays where one weight meets few rows many times, as the head does in generation. The copy is for reading only:
    where gradients are wanted `F.linear` answers, and after a change of the weight the copy has to be made anew.

    Args:
        weight: the weight; unless it is in float32 on the CPU, what is given back is `F.linear` itself.

    Returns:
        A function of (x, weight, bias) as those above; to any other weight it is `F.linear`.

    Shape:
        weight (F, D); for the result x (..., D), bias (F,) -> (..., F).

    Source: this course; the routine is the one that `torch.compile` calls. Taught in ch05, section S.8 of its scaling
    notebook.
    """
    library = torch.ops.mkldnn  # oneDNN by its old name; what begins with _ is there in the version of torch we pin
    if not (_in_float32_on_the_cpu(weight) and hasattr(library, "_linear_pointwise")):
        return F.linear
    packed = library._reorder_linear_weight(weight.detach())

    def product(x: Tensor, other: Tensor, bias: Tensor | None = None) -> Tensor:
        wants_gradient = any(t is not None and t.requires_grad for t in (x, weight, bias))
        if other is not weight or (wants_gradient and torch.is_grad_enabled()):
            return F.linear(x, other, bias)
        return library._linear_pointwise(x, packed, bias, "none", [], "")

    return product


class LinearBy(TorchFunctionMode):
    """While it is open, every `F.linear` in float32 on the CPU, wherever it stands, is computed by another function.

    A call that names its first argument (`F.linear(input=x, ...)`) is left alone; `nn.Linear` never names it.

    Args:
        product: a function of (x, weight, bias), as those above.

    Source: this course. Taught in ch05, section S.8 of its scaling notebook.
    """

    def __init__(self, product: Callable[..., Tensor]):
        super().__init__()
        self.product = product

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.linear and args and _in_float32_on_the_cpu(args[0]):
            func = self.product
        return func(*args, **(kwargs or {}))


def _in_float32_on_the_cpu(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
