"""Where a tensor of a Hugging Face file lies in our parameters.

A `torch` Linear stores [out, in], a `Conv1D` (GPT, GPT-2) and ours [in, out]; query, key and value
are one array here and in GPT, three in BERT's files. The same places serve reading and writing, and
gradients as well as parameters.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Place:
    """Where one tensor of a Hugging Face file belongs.

    Attributes:
      path: Our parameter.
      shape: As stored in the file.
      linear: Whether the file has it transposed.
      part: Which third of the parameter it is: 0, 1, 2 for query, key, value; None for all of it.
    """

    path: str
    shape: tuple[int, ...]
    linear: bool = False
    part: int | None = None

    @property
    def in_backbone(self) -> bool:
        """Whether the name has the backbone's prefix in files with a head on top."""
        return self.path.startswith(("bert/", "gpt/", "pooler/"))

    def view(self, parameter: np.ndarray) -> np.ndarray:
        """The part of the whole parameter that this tensor fills."""
        if self.part is None:
            return parameter
        return parameter[:, self.part] if self.linear else parameter[self.part]

    def from_file(self, tensor: np.ndarray) -> np.ndarray:
        """The tensor in the axis order of ours; its shape is still that of a matrix or vector."""
        return tensor.T if self.linear else tensor

    def to_file(self, parameter: np.ndarray) -> np.ndarray:
        """The tensor as a file has it, from the whole parameter."""
        view = self.view(parameter)
        return view.reshape(self.shape[::-1]).T if self.linear else view.reshape(self.shape)


def linear(there: str, here: str, inputs: int, outputs: int) -> dict[str, Place]:
    """A dense layer that the file has transposed."""
    return {
        f"{there}.weight": Place(f"{here}/kernel", (outputs, inputs), linear=True),
        f"{there}.bias": Place(f"{here}/bias", (outputs,)),
    }


def conv1d(there: str, kernel: str, bias: str, inputs: int, outputs: int) -> dict[str, Place]:
    """A dense layer that the file has as we do."""
    return {
        f"{there}.weight": Place(kernel, (inputs, outputs)),
        f"{there}.bias": Place(bias, (outputs,)),
    }


def norm(there: str, here: str, width: int) -> dict[str, Place]:
    """A LayerNorm."""
    return {
        f"{there}.weight": Place(f"{here}/scale", (width,)),
        f"{there}.bias": Place(f"{here}/bias", (width,)),
    }
