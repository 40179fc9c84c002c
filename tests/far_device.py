"""A second device for computers that have none: it holds real numbers and never mixes them with the processor's.

Inside `far_away()` the device FAR, PyTorch's "meta", works like a GPU: `.to(FAR)`, `.cpu()` and `.item()` move numbers,
everything else runs, and an operation that is given tensors of both devices raises as PyTorch would.
"""

import copy

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

FAR = torch.device("meta")
ATEN = torch.ops.aten


class Far(Tensor):
    """A tensor whose device says FAR and whose numbers stand in `near`, on the processor."""

    @staticmethod
    def __new__(cls, near: Tensor):
        with torch.inference_mode(False):
            return Tensor._make_wrapper_subclass(
                cls, near.shape, strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
                device=FAR,
            )  # fmt: skip

    def __init__(self, near: Tensor):
        self.near = near

    def tolist(self):
        return self.near.tolist()

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


class far_away(TorchDispatchMode):  # noqa: N801, a context manager
    """The context in which FAR is a device of its own."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


def far_copy(model: nn.Module) -> nn.Module:
    """Copy a model to FAR, weights that are one staying one."""
    memo = {id(p): nn.Parameter(Far(p.detach().clone()), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, memo | {id(buffer): Far(buffer.clone()) for buffer in model.buffers()})


def run(operation, args, kwargs):
    """Run an operation on the processor and put its result where a GPU's would be."""
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    far = any(isinstance(tensor, Far) for tensor in tensors)
    if far and operation not in (ATEN._to_copy.default, ATEN.copy_.default, ATEN.to.other):
        refuse_mixed(operation, args if operation not in (ATEN.index.Tensor, ATEN.index_put_.default) else args[::2])
    if operation is ATEN._local_scalar_dense.default:
        return operation(args[0].near if far else args[0])
    if operation is ATEN.copy_.default:
        far = isinstance(args[0], Far)
    if operation is ATEN.to.other:
        far = isinstance(args[1], Far)
    names = [argument.name for argument in operation._schema.arguments[: len(args)]]
    if "device" in names:  # in inference mode, `.to(device)` comes as it was called
        place = names.index("device")
        far, args = torch.device(args[place]) == FAR, (*args[:place], torch.device("cpu"), *args[place + 1 :])
    if kwargs.get("device") is not None:
        far, kwargs = torch.device(kwargs["device"]) == FAR, {**kwargs, "device": torch.device("cpu")}
    near_args, near_kwargs = tree_map_only(Far, lambda tensor: tensor.near, (args, kwargs))
    result = operation(*near_args, **near_kwargs)
    changes = operation._schema.arguments and operation._schema.arguments[0].alias_info
    if changes and changes.is_write:  # in place
        return args[0] if operation._schema.returns else None
    return tree_map_only(Tensor, Far, result) if far else result


def refuse_mixed(operation, args) -> None:
    """A number without dimensions may come from the processor, and so may the places of an indexing; nothing else."""
    if any(not isinstance(t, Far) and t.ndim for t in tree_flatten(args)[0] if isinstance(t, Tensor)):
        raise RuntimeError(f"Expected all tensors to be on the same device, but {operation} got some of FAR and cpu")
