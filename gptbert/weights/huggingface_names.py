"""What a BERT's tensors are called in Hugging Face files, and where ours lie in them.

A `torch` Linear stores [out, in], ours [in, out]; query, key and value are one array here. The
same table serves reading and writing, and gradients as well as parameters.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from gptbert.models.presets import BertConfig

PREFIX = "bert."
_PROJECTIONS = ("query", "key", "value")
_LAYER = re.compile(r"^encoder\.layer\.([0-9]{1,6})\.")


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


def bert_places(config: BertConfig) -> dict[str, Place]:
    """Every tensor of embeddings and layers, by its name without prefix."""
    places = {
        f"embeddings.{kind}_embeddings.weight": Place(
            f"bert/embeddings/{kind}/table", (entries, config.width)
        )
        for kind, entries in (
            ("word", config.vocabulary),
            ("position", config.positions),
            ("token_type", config.token_types),
        )
    }
    places |= _norm("embeddings.LayerNorm", "bert/embeddings/norm", config.width)
    for number in range(config.layers):
        places |= _layer(number, config)
    return places


def pooler_places(config: BertConfig) -> dict[str, Place]:
    """The tensors of the pooler, by name without prefix."""
    return _dense("pooler.dense", "pooler/dense", config.width, config.width)


def classifier_places(config: BertConfig, classes: int) -> dict[str, Place]:
    """The tensors of a classifier of C classes; they never have a prefix."""
    return _dense("classifier", "classifier", config.width, classes)


def parameter_shapes(
    config: BertConfig, *, pooler: bool = True, classes: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Our parameters' shapes by path; the classifier's with `classes`."""
    heads = (3, config.heads, config.head_width)
    shapes = {}
    for place in all_places(config, pooler=pooler, classes=classes).values():
        shape = place.shape[::-1] if place.linear else place.shape
        if place.path.endswith("qkv_kernel"):
            shape = (config.width, *heads)
        elif place.path.endswith("qkv_bias"):
            shape = heads
        elif place.path.endswith("output_kernel"):
            shape = (*heads[1:], config.width)
        shapes[place.path] = shape
    return shapes


def all_places(
    config: BertConfig, *, pooler: bool = True, classes: int | None = None
) -> dict[str, Place]:
    """Name in a file, without prefix -> place, of a whole model."""
    places = bert_places(config)
    if pooler:
        places |= pooler_places(config)
    if classes is not None:
        places |= classifier_places(config, classes)
    return places


def from_huggingface(
    places: Mapping[str, Place],
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
) -> dict[str, np.ndarray]:
    """Our parameters by path from the tensors that `read` gives by name (without prefix)."""
    parameters: dict[str, np.ndarray] = {}
    for name, place in places.items():
        tensor = read(name)
        if not place.linear and place.part is None:
            parameters[place.path] = tensor  # the large tables are not copied again
            continue
        if place.path not in parameters:
            parameters[place.path] = np.empty(shapes[place.path], tensor.dtype)
        view = place.view(parameters[place.path])
        view[...] = place.from_file(tensor).reshape(view.shape)
    return parameters


def to_huggingface(
    config: BertConfig, parameters: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """Pairs of name (without prefix) and tensor, as a Hugging Face file has them.

    Raises:
      ValueError: Parameters are missing, unknown, or not of the shapes that `config` gives them.
    """
    arrays = {path: np.asarray(value) for path, value in parameters.items()}
    bias = arrays.get("classifier/bias")
    classes = None if bias is None else bias.size
    pooler = "pooler/dense/kernel" in arrays
    expected = parameter_shapes(config, pooler=pooler, classes=classes)
    found = {path: array.shape for path, array in arrays.items()}
    if wrong := sorted({path for path, _ in set(expected.items()) ^ set(found.items())}):
        told = ", ".join(f"{p} {found.get(p)} (expected {expected.get(p)})" for p in wrong[:4])
        raise ValueError(f"{len(wrong)} parameters do not belong to this shape of BERT: {told}")
    for name, place in all_places(config, pooler=pooler, classes=classes).items():
        yield name, place.to_file(arrays[place.path])


def canonical(name: str) -> str:
    """The name without prefix, old LayerNorm names (gamma, beta) made new."""
    name = name.removeprefix(PREFIX)
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def layer_number(name: str) -> int | None:
    """The number of the encoder layer that a tensor without prefix belongs to."""
    match = _LAYER.match(name)
    return int(match[1]) if match else None


def _layer(number: int, config: BertConfig) -> dict[str, Place]:
    there, here = f"encoder.layer.{number}", f"bert/layers/{number}"
    width, inner = config.width, config.inner
    places = {}
    for part, projection in enumerate(_PROJECTIONS):
        name = f"{there}.attention.self.{projection}"
        kernel, bias = f"{here}/attention/qkv_kernel", f"{here}/attention/qkv_bias"
        places[f"{name}.weight"] = Place(kernel, (width, width), linear=True, part=part)
        places[f"{name}.bias"] = Place(bias, (width,), part=part)
    output = f"{there}.attention.output.dense"
    places[f"{output}.weight"] = Place(
        f"{here}/attention/output_kernel", (width, width), linear=True
    )
    places[f"{output}.bias"] = Place(f"{here}/attention/output_bias", (width,))
    places |= _norm(f"{there}.attention.output.LayerNorm", f"{here}/attention_norm", width)
    places |= _dense(f"{there}.intermediate.dense", f"{here}/up", width, inner)
    places |= _dense(f"{there}.output.dense", f"{here}/down", inner, width)
    places |= _norm(f"{there}.output.LayerNorm", f"{here}/mlp_norm", width)
    return places


def _dense(there: str, here: str, inputs: int, outputs: int) -> dict[str, Place]:
    return {
        f"{there}.weight": Place(f"{here}/kernel", (outputs, inputs), linear=True),
        f"{there}.bias": Place(f"{here}/bias", (outputs,)),
    }


def _norm(there: str, here: str, width: int) -> dict[str, Place]:
    return {
        f"{there}.weight": Place(f"{here}/scale", (width,)),
        f"{there}.bias": Place(f"{here}/bias", (width,)),
    }
