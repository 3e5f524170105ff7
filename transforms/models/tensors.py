"""What a model's file states about its inputs and outputs, for every model format."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """Name of a dtype, and a shape. A free size is None, and so is a shape of unknown rank."""

    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of unknown rank"
        return f"{self.dtype}[{', '.join('?' if size is None else str(size) for size in self.shape)}]"


@dataclasses.dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a signature, by name."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]

    def __str__(self) -> str:
        return f"({listed(self.inputs)}) → {listed(self.outputs)}"


def listed(tensors: Mapping[str, TensorInfo]) -> str:
    """Returns the names, dtypes and shapes of tensors, as in `a: float32[?, 3], b: uint8[?]`."""
    return ", ".join(f"{name}: {info}" for name, info in sorted(tensors.items()))
