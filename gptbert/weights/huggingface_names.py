"""Between our parameters and the tensors of Hugging Face files, for BERT, GPT and GPT-2.

`huggingface_bert.py` and `huggingface_gpt.py` have the names; here they are applied, and the
differences between the three kinds of file told: prefix, layers, tensors that are stored twice.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from gptbert.models.presets import BertConfig, GptConfig, ModelConfig
from gptbert.weights.huggingface_bert import bert_places, head_places
from gptbert.weights.huggingface_gpt import TABLES, gpt_places
from gptbert.weights.huggingface_places import Place

PREFIX = "bert."


@dataclasses.dataclass(frozen=True)
class Naming:
    """What differs between the files of the three models.

    Attributes:
      model: What the model is called in messages.
      prefix: Before the names of the backbone's tensors where a head is on top.
      layer: Before a layer's number.
      ties: Names that repeat another tensor, and which.
    """

    model: str
    prefix: str
    layer: str
    ties: Mapping[str, str]

    def layer_number(self, name: str) -> int | None:
        """The number of the layer that a tensor without prefix belongs to."""
        match = re.match(re.escape(self.layer) + r"([0-9]{1,6})\.", name)
        return int(match[1]) if match else None


_BERT_TIES = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


def naming(config: ModelConfig) -> Naming:
    """The naming of the files of a shape."""
    if isinstance(config, BertConfig):
        return Naming("BERT", PREFIX, "encoder.layer.", _BERT_TIES)
    name = "GPT" if config.norm_place == "post" else "GPT-2"
    tie = {"lm_head.weight": f"{TABLES[config.norm_place][0]}.weight"}
    return Naming(name, "transformer.", "h.", tie)


def backbone_places(config: ModelConfig) -> dict[str, Place]:
    """Name without prefix -> place, of what every file of such a model has."""
    return gpt_places(config) if isinstance(config, GptConfig) else bert_places(config)


def all_places(
    config: ModelConfig,
    *,
    pooler: bool | None = None,
    classes: int | None = None,
    mlm: bool = False,
    nsp: bool = False,
) -> dict[str, Place]:
    """Name in a file, without prefix -> place, of a whole model.

    A pooler is there unless it is said not to be (GPT has none), a classifier with `classes`.
    """
    places = backbone_places(config)
    if isinstance(config, BertConfig):
        heads = head_places(config, classes or 1)
        wanted = {"pooler": pooler is not False, "classifier": classes is not None}
        for head, is_wanted in {**wanted, "mlm": mlm, "nsp": nsp}.items():
            places |= heads[head] if is_wanted else {}
    return places


def parameter_shapes(
    config: ModelConfig,
    *,
    pooler: bool | None = None,
    classes: int | None = None,
    mlm: bool = False,
    nsp: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Our parameters' shapes by path; arguments as of `all_places`."""
    places = all_places(config, pooler=pooler, classes=classes, mlm=mlm, nsp=nsp)
    return shapes_of(config, places)


def shapes_of(config: ModelConfig, places: Mapping[str, Place]) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters that `places` name, by path."""
    heads = (3, config.heads, config.head_width)
    shapes = {}
    for place in places.values():
        shape = place.shape[::-1] if place.linear else place.shape
        if place.path.endswith("qkv_kernel"):
            shape = (config.width, *heads)
        elif place.path.endswith("qkv_bias"):
            shape = heads
        elif place.path.endswith("output_kernel"):
            shape = (*heads[1:], config.width)
        shapes[place.path] = shape
    return shapes


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
            # The large tables are not copied again.
            parameters[place.path] = tensor.reshape(shapes[place.path])
            continue
        if place.path not in parameters:
            parameters[place.path] = np.empty(shapes[place.path], tensor.dtype)
        view = place.view(parameters[place.path])
        view[...] = place.from_file(tensor).reshape(view.shape)
    return parameters


def places_of(config: ModelConfig, parameters: Mapping[str, np.ndarray]) -> dict[str, Place]:
    """Name without prefix -> place, of a model that has the heads of `parameters`.

    Raises:
      ValueError: Parameters are missing, unknown, or not of the shapes that `config` gives them.
    """
    bias = parameters.get("classifier/bias")
    places = all_places(
        config,
        pooler="pooler/dense/kernel" in parameters,
        classes=None if bias is None else bias.size,
        mlm="mlm/dense/kernel" in parameters,
        nsp="nsp/kernel" in parameters,
    )
    expected = shapes_of(config, places)
    found = {path: array.shape for path, array in parameters.items()}
    if wrong := sorted({path for path, _ in set(expected.items()) ^ set(found.items())}):
        told = ", ".join(f"{p} {found.get(p)} (expected {expected.get(p)})" for p in wrong[:4])
        model = naming(config).model
        raise ValueError(f"{len(wrong)} parameters do not belong to this shape of {model}: {told}")
    return places


def to_huggingface(
    config: ModelConfig, parameters: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """Pairs of name (without prefix) and tensor, as a Hugging Face file has them.

    Raises:
      ValueError: As `places_of`.
    """
    arrays = {path: np.asarray(value) for path, value in parameters.items()}
    for name, place in places_of(config, arrays).items():
        yield name, place.to_file(arrays[place.path])


def canonical(name: str, prefix: str = PREFIX) -> str:
    """The name without prefix, old LayerNorm names (gamma, beta) made new."""
    name = name.removeprefix(prefix)
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
