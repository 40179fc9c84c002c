"""The GGUF format: one file that holds a whole model, as llama.cpp, Ollama and LM Studio keep it.

First come four letters and a version, then fields (name -> value) with all that is known about the model and its
tokenizer, then a list that says of each tensor its name, its shape, how its numbers are written and where they stand,
and at last the numbers. All of it lies in memory only where it is looked at: the file is mapped, not read.

Everything up to the numbers is checked here against the length of the file, so that a damaged one is refused before any
work. Left out: files in several parts, big-endian files, version 1.
Reference: ggml's specification of GGUF.
"""

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ch05_pretraining.published_tokenizers import needed_package
from ch05_pretraining.weight_files import what_it_is

__all__ = ["GGUFFile", "GGUFTensor"]

MAGIC, VERSIONS = b"GGUF", (2, 3)
STRING, ARRAY = 8, 9
NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}  # kind -> struct's
QUANTIZATIONS = {  # number -> its name, numbers in a block, bytes of a block
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2), 8: ("Q8_0", 32, 34), 2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210),
}  # fmt: skip
OTHERS = {  # how other files begin that are taken for GGUF -> what they are
    b"PK": "is a zip archive: unpack it, and give the .gguf file inside",
    b"tjgg": "is of the format before GGUF (ggjt): get the model as .gguf",
    b"lmgg": "is of the format before GGUF (ggml): get the model as .gguf",
}


class GGUFTensor(NamedTuple):
    """Where a tensor stands.

    Args:
        shape: as PyTorch says it, rows first.
        quantization: "F32", "Q4_1" and so on.
        start: its first byte in the file.
        n_bytes: how many it has.

    Source: ggml's specification of GGUF.
    """

    shape: tuple[int, ...]
    quantization: str
    start: int
    n_bytes: int


class GGUFFile:
    """A GGUF file, opened: its fields and, without their numbers, its tensors.

    Args:
        path: the file.

    Attributes:
        fields: name -> number, truth value, string or list of them.
        tensors: name -> `GGUFTensor`.

    Raises:
        ValueError: no such file, another kind of file, a damaged one, or a quantization that is not read here.

    Source: ggml's specification of GGUF.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f"there is no file {path}: give the path of a .gguf file")
        self._bytes: np.ndarray = np.memmap(self.path, mode="r") if self.path.stat().st_size else np.empty(0, np.uint8)
        _refuse_foreign(self._bytes[:64].tobytes(), self.path)
        try:
            self.fields, self.tensors = _Header(self._bytes.data).read()
        except (ValueError, RecursionError, OverflowError, MemoryError) as error:
            raise ValueError(
                f"{path} is not a GGUF file that can be read here ({error}): fetch it again, or take another"
            ) from error

    def numbers(self, name: str, begin: int = 0, end: int | None = None) -> np.ndarray:
        """Undo the quantization of some rows of a tensor.

        Args:
            name: one of `tensors`.
            begin: first row; a tensor with one axis is one row.
            end: row after the last one; None means all.

        Shape:
            -> (end - begin, length of a row) in float32.
        """
        gguf, tensor = needed_package("gguf"), self.tensors[name]
        content = self._bytes[tensor.start : tensor.start + tensor.n_bytes]
        rows = np.asarray(content).reshape(math.prod(tensor.shape[:-1]), -1)[begin:end]
        return gguf.dequantize(rows, gguf.GGMLQuantizationType[tensor.quantization])


class _Header:
    """Reads what stands before the numbers, from the left to the right."""

    def __init__(self, content: memoryview):
        self.content, self.place = content, 8  # after the letters and the version

    def read(self) -> tuple[dict[str, Any], dict[str, GGUFTensor]]:
        n_tensors, n_fields = self.number("Q"), self.number("Q")
        fields = self.named(n_fields, lambda: self.value(self.number("I")))
        places = self.named(n_tensors, self.tensor_place)
        alignment = fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment is {alignment!r}")
        first = -(-self.place // alignment) * alignment
        return fields, {name: self.tensor(name, first, *place) for name, place in places.items()}

    def named(self, n: int, read: Callable[[], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(n):
            name = self.string()
            if name in found:
                raise ValueError(f"{name!r} stands there twice")
            found[name] = read()
        return found

    def take(self, n_bytes: int) -> bytes:
        if n_bytes > len(self.content) - self.place:
            raise ValueError(f"it ends after {len(self.content)} bytes, in the middle of its header")
        self.place += n_bytes
        return self.content[self.place - n_bytes : self.place].tobytes()

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def string(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self.array(self.number("I"), self.number("Q"))
        if kind not in NUMBERS:
            raise ValueError(f"a field is of the unknown kind {kind}")
        return self.number(NUMBERS[kind])

    def array(self, kind: int, n: int) -> list:
        if kind in NUMBERS:
            return np.frombuffer(self.take(n * struct.calcsize(f"<{NUMBERS[kind]}")), f"<{NUMBERS[kind]}").tolist()
        return [self.value(kind) for _ in range(n)]

    def tensor_place(self) -> tuple[tuple[int, ...], int, int]:
        """Shape, number of the quantization, and offset, of one tensor."""
        shape = tuple(self.number("Q") for _ in range(self.number("I")))
        return shape[::-1], self.number("I"), self.number("Q")

    def tensor(self, name: str, first: int, shape: tuple[int, ...], kind: int, offset: int) -> GGUFTensor:
        if kind not in QUANTIZATIONS:
            known = ", ".join(known for known, _, _ in QUANTIZATIONS.values())
            raise ValueError(f"{name} is quantized as {_kind_name(kind)}, expected one of {known}")
        quantization, block, size = QUANTIZATIONS[kind]
        if not shape or len(shape) > 4 or min(shape) < 1 or shape[-1] % block:
            raise ValueError(f"{name} has the shape {shape}, which {quantization} cannot have")
        n_bytes = math.prod(shape[:-1]) * (shape[-1] // block) * size
        if first + offset + n_bytes > len(self.content):
            raise ValueError(f"it ends after {len(self.content)} bytes, before the end of {name}")
        return GGUFTensor(shape, quantization, first + offset, n_bytes)


def _kind_name(kind: int) -> str:
    try:
        return needed_package("gguf").GGMLQuantizationType(kind).name
    except ValueError:
        return f"number {kind}"


def _refuse_foreign(begin: bytes, path: Path) -> None:
    """Refuse, by what it is, a file that begins in another way than GGUF's versions 2 and 3."""
    if begin[:4] != MAGIC:
        raise ValueError(f"{path} {_kind_of_file(begin)}")
    if len(begin) < 8:
        raise ValueError(f"{path} ends after {len(begin)} bytes, in the middle of its header: fetch it again")
    version = int.from_bytes(begin[4:8], "little")
    if version not in VERSIONS:
        swapped = int.from_bytes(begin[4:8], "big") in VERSIONS
        found = "has its numbers in big-endian order" if swapped else f"is of GGUF's version {version}"
        raise ValueError(f"{path} {found}; expected versions 2 and 3, little-endian: get the model in that form")


def _kind_of_file(begin: bytes) -> str:
    if not begin:
        return "is empty: the download went wrong, fetch it again"
    if begin[8:9] == b"{":
        return "holds safetensors: give the folder with its config.json"
    unknown = f"is no GGUF file (it begins with {begin[:4]!r}): give the path of one, or fetch it again"
    return what_it_is(begin, OTHERS, unknown)
