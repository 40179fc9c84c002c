"""Everything that exists for speed alone: the same numbers, up to rounding, in less time.

The models of chapters 3 and 4 and `generate` are written to be read. What makes them faster stands here, outside of
them, behind context managers: `fast_paths` for writing text, `fast_attention` for training in bfloat16, and `LinearBy`
for the product of a linear layer by another routine. Leave them out and the same tokens come, only later; the tests
hold both equal.

Reference: Goto and van de Geijn (2008), "Anatomy of high-performance matrix multiplication". Taught in ch04, section
4.10, and inference.ipynb, section I.1, and in ch05, section S.8 of its scaling notebook.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MethodType
from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from ch04_gpt_model.gpt_config import GPTConfig
    from ch04_gpt_model.gpt_model import GPTModel

__all__ = [
    "LinearBy", "fast_attention", "fast_paths", "linear_by_columns", "linear_by_convolution", "linear_by_packing",
]  # fmt: skip

LARGE = 20_000_000  # weights: so many do not fit into most processors' caches, and reading them takes the time
SHORT = 512  # keys: for longer texts PyTorch's own attention is faster in bfloat16, too
PICTURES = 16  # with fewer, PyTorch does not always call the routine that is meant
FEW_ROWS = 32  # with more, arithmetic takes the time and not the reading of the weights


# --- writing text -----------------------------------------------------------------------------------------------------


@contextmanager
def fast_paths(model: "GPTModel", n_rows: int) -> Iterator[None]:
    """Let a model write text faster, with the same tokens; afterwards it is as it was.

    Parts that are replaced meanwhile, hooks, and modules with a `forward` of their own are used as they are. Opening
    it takes a small part of a token's time, so that it pays for a single token, too.

    Args:
        model: any GPT, in evaluation mode.
        n_rows: number of texts that it writes at once.

    Source: this course. Taught in ch04, section 4.10.
    """
    with _attributes(_other_products(model, n_rows)), _attributes(_short_ways(model)):
        yield


def _other_products(model: "GPTModel", n_rows: int) -> list[tuple[dict, dict]]:
    """Give plain linear layers a `forward` by another routine: all of a large model's, or a small one's head."""
    if _numbers_read(model.config) > LARGE:
        return [_forward_by(layer, linear_by_columns) for layer in model.modules() if _is_plain(layer)]
    head = model.head
    return [_forward_by(head, linear_by_packing(head.weight))] if n_rows > 1 and _is_plain(head) else []


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether it is PyTorch's linear layer, nobody's own kind, with numbers that the routines below take."""
    return type(layer) is nn.Linear and "forward" not in vars(layer) and _in_float32_on_the_cpu(layer.weight)


def _numbers_read(config: "GPTConfig") -> int:
    """Count the weights that a token is multiplied with, about."""
    in_a_block = 4 * config.d_model**2 + 2 * config.d_model * config.d_ff
    return config.n_layers * in_a_block + config.vocab_size * config.d_model


def _forward_by(layer: nn.Linear, product: Callable[..., Tensor]) -> tuple[dict, dict]:
    """Give the layer a `forward` by a function of (x, weight, bias)."""
    return vars(layer), {"forward": MethodType(lambda layer, x: product(x, layer.weight, layer.bias), layer)}


def _short_ways(model: nn.Module) -> list[tuple[dict, dict]]:
    """Let Python find a module's parts, and where no module has a hook its `forward`, without asking `nn.Module`.

    The asking takes a fifth of a small model's time per token. What a compiler has made keeps its parts elsewhere and
    is left alone.
    """
    modules = list(model.modules())
    owns = [vars(module) for module in modules]
    ways = [(own, {**own.get("_parameters", {}), **own.get("_modules", {})}) for own in owns]
    if not _has_hooks(owns):  # `nn.Module.__call__` goes on with `_call_impl`, which would look for them each time
        ways += [(own, {"_call_impl": module.forward}) for own, module in zip(owns, modules)]
    return ways


def _has_hooks(owns: list[dict]) -> bool:
    everywhere = vars(nn.modules.module)
    return bool(
        everywhere["_global_forward_hooks"]
        or everywhere["_global_forward_pre_hooks"]
        or any(own.get("_forward_hooks") or own.get("_forward_pre_hooks") for own in owns)
    )


@contextmanager
def _attributes(settings: list[tuple[dict, dict]]) -> Iterator[None]:
    """Write attributes past `nn.Module`; afterwards take away those that nobody has changed meanwhile."""
    for own, attributes in settings:
        own.update(attributes)
    try:
        yield
    finally:
        for own, attributes in settings:
            for name, value in attributes.items():
                if name in own and own[name] is value:
                    del own[name]


# --- training in bfloat16 ---------------------------------------------------------------------------------------------


@contextmanager
def fast_attention(precision: AbstractContextManager) -> Iterator[None]:
    """Write short attention in bfloat16 out on a CPU, where that is faster than PyTorch's own kernel.

    Args:
        precision: the context that sets the precision, such as `torch.autocast("cpu", torch.bfloat16)`; opened too.

    Source: this course. Taught in ch03, section 3.12 (how to measure whether such a change pays).
    """
    with precision, _AttentionInProducts():
        yield


class _AttentionInProducts(TorchFunctionMode):
    """While it is open, attention that `_fits` is computed by `_attention_in_products`, wherever it stands."""

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and _fits(*args, **kwargs):
            func = _attention_in_products
        return func(*args, **kwargs)


def _fits(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
          is_causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False) -> bool:  # fmt: skip
    short = query.dtype == torch.bfloat16 and query.device.type == "cpu" and key.shape[-2] <= SHORT
    return short and attn_mask is None and scale is None and not enable_gqa


def _attention_in_products(query: Tensor, key: Tensor, value: Tensor, attn_mask: None = None,
                           dropout_p: float = 0.0, is_causal: bool = False) -> Tensor:  # fmt: skip
    """Compute chapter 3's formula in two products, with the softmax between them in float32."""
    scores = query / math.sqrt(query.shape[-1]) @ key.transpose(-2, -1)  # (..., T, S)
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)  # (T, S), as PyTorch's kernel counts them
        scores = scores + torch.zeros_like(later, dtype=query.dtype).masked_fill(later, -torch.inf)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    return F.dropout(weights, dropout_p) @ value


# --- the product of a linear layer ------------------------------------------------------------------------------------


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

    Source: this course. Taught in ch04, inference.ipynb, section I.1.
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

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func is F.linear and args and _in_float32_on_the_cpu(args[0]):
            func = self.product
        return func(*args, **(kwargs or {}))


def _in_float32_on_the_cpu(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
