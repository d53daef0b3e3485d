"""Everything that a pre-training config names, read and put together before anything is trained."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from gptbert.errors import UserError, nearest
from gptbert.models.parameters import (
    Parameters,
    describe,
    initialize,
    stack_layers,
    unstack_layers,
)
from gptbert.models.presets import (
    BertConfig,
    Compute,
    GptConfig,
    ModelConfig,
    matrix_parameters,
    preset,
)
from gptbert.models.pretraining import MaskedLanguageModel, NextTokenModel
from gptbert.pipeline.held_out import HeldOut, held_out_instances, held_out_windows
from gptbert.pipeline.instances import Creation
from gptbert.pipeline.masking import Masking
from gptbert.pipeline.mixture import Mixture
from gptbert.pipeline.plan import CostModel, cost_model
from gptbert.pipeline.pretraining_plan import PhasedPlan, phase_steps, plan_instances, plan_windows
from gptbert.runs.assemble import LARGEST_SEED
from gptbert.runs.backbone import without_gpt_tokens
from gptbert.runs.layers import choose_compute
from gptbert.runs.pretraining_recipe import check_read
from gptbert.runs.pretraining_stores import (
    check_tokenizer,
    prepare_with,
    read_held_out,
    read_mixture,
    tokenizer_of,
)
from gptbert.tasks.pretraining import OBJECTIVES, objective_of
from gptbert.tokenizers import Tokenizer
from gptbert.training.optimizer import make_optimizer
from gptbert.training.products import choose_products
from gptbert.training.schedules import make_schedule
from gptbert.training.sharding import (
    Layout,
    check_model,
    make_layout,
    pad_vocabulary,
)
from gptbert.training.step import Training
from gptbert.training.throughput import Throughput, device_peak
from gptbert.weights.pretrained import check_pairs, is_table_of
from gptbert.weights.run_folder import Head
from gptbert.weights.sources import Weights, read_weights, start_from

_EVALUATION_TOKENS = 8_192  # of one batch of the held-out share, about


@dataclasses.dataclass(frozen=True)
class PretrainingAssembly:
    """A run's parts.

    Attributes:
      config: Resolved.
      model: The shape, its vocabulary that of the stores.
      compute: How it is computed.
      tokenizer: Of the stores.
      plan: Every batch of the run.
      held_out: What is scored; None where the stores hold nothing out.
      training: Graph, objective, optimizer, layout.
      build: Makes the module from nnx.Rngs.
      start: Loaded parameters, host arrays, layers numbered; empty for random weights.
      notes: What the user should know.
      fingerprints: Of the stores, the tokenizer and the weights.
      places: Where the stores lie, by the same names.
    """

    config: ConfigDict
    model: ModelConfig
    compute: Compute
    tokenizer: Tokenizer
    plan: PhasedPlan
    held_out: HeldOut | None
    training: Training
    build: Any
    start: Parameters
    notes: list[str]
    fingerprints: dict[str, str]
    places: dict[str, str]

    @property
    def layout(self) -> Layout:
        return self.training.layout

    @property
    def throughput(self) -> Throughput:
        """What a token costs here."""
        return Throughput(self.model, device_peak())

    def initial_parameters(self) -> Parameters:
        """Loaded parameters, the missing ones drawn from the seed, placed on the mesh.

        Random weights are drawn where they belong: no device ever holds more than its share.
        """
        _, wanted = describe(self.build)
        loaded = (stack_layers if self.compute.scan_layers else unstack_layers)(self.start)
        missing = {path for path in wanted if path not in loaded}

        def draw() -> Parameters:
            return pad_vocabulary(initialize(self.build, self.config.seed, missing), self.layout)

        shapes = jax.eval_shape(draw)
        drawn = jax.jit(draw, out_shardings=self.layout.tree(shapes))() if missing else {}
        given = pad_vocabulary(
            {path: loaded[path] for path in wanted if path in loaded}, self.layout
        )
        return drawn | jax.device_put(given, self.layout.tree(given))


def assemble_pretraining(config: ConfigDict) -> PretrainingAssembly:
    """Reads what `config` names and puts it together; raises UserError for bad input."""
    check_numbers(config)
    layout = make_layout(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    notes: list[str] = []
    mixture = read_mixture(config)
    held_out_mixture = read_held_out(config, mixture, notes)
    tokenizer = tokenizer_of(mixture.stores[0])
    weights = None
    if config.init_from:
        weights = without_gpt_tokens(read_weights(config.init_from, head_kind(config.objective)))
        notes += [*weights.notes, *check_tokenizer(config.init_from, mixture.stores[0], tokenizer)]
    model = _shape(config, weights, tokenizer)
    if weights is not None and (odd := _other_shape(config, model)):
        notes.append(f"the shape is that of the weights, not of {config.model}: {odd}")
    check_model(model, layout)
    if config.objective == "mlm_nsp":
        check_pairs(model, 2, config.init_from or config.model)

    costs = cost_model(model, on_cpu=jax.default_backend() == "cpu")
    phases = _phases(config)
    plan = _plan(config, phases, mixture, tokenizer, layout, costs)
    steps = phase_steps(phases, config.steps)
    tokens = config.batch_size * sum(count * length for length, count in steps)
    flops = 6.0 * matrix_parameters(model) * tokens
    at_once = tokens / config.steps / config.accumulate
    products = choose_products(config.compute_dtype, flops, at_once)
    building = functools.partial(_builder, config.objective, model)
    compute = choose_compute(config, products.arrays, building)
    build = building(compute)
    graph, wanted = describe(build)
    start: Parameters = {}
    if weights is not None:
        start, told = start_from(weights, jax.eval_shape(unstack_layers, wanted))
        notes += told
    optimizer = make_optimizer(
        config.optimizer,
        weight_decay=config.weight_decay,
        clip=config.clip_norm,
        b2=config.b2,
        epsilon=config.epsilon,
    )
    objective = objective_of(config.objective)
    training = Training(
        graph, objective, optimizer, layout, tuple(config.frozen),
        products=products,
    )  # fmt: skip
    held_out = None
    if held_out_mixture is not None:
        held_out = _held_out(config, held_out_mixture, tokenizer, layout, costs)
    stores = {f"corpus {number}": store for number, store in enumerate(mixture.stores)}
    if config.held_out_corpus and held_out_mixture is not None:
        stores |= {f"held-out corpus {n}": s for n, s in enumerate(held_out_mixture.stores)}
    fingerprints = {name: store.fingerprint for name, store in stores.items()}
    fingerprints |= {"tokenizer": tokenizer.fingerprint}
    fingerprints |= {"weights": weights.fingerprint} if weights else {}
    return PretrainingAssembly(
        config, model, compute, tokenizer, plan, held_out, training, build, start, notes,
        fingerprints, {name: store.path for name, store in stores.items()},
    )  # fmt: skip


def head_kind(objective: str) -> Head:
    """What a model description calls the heads of an objective."""
    return "next-token" if objective in ("next_token", "left_to_right") else "masked-lm"


def check_numbers(config: ConfigDict) -> None:
    """Refuses values that cannot work before anything is loaded."""
    if "corpus" not in config:
        raise UserError(
            "this config is none of pre-training (it names no corpus); expected one such as "
            "configs/bert.py:base, or `gptbert finetune` with this one"
        )
    for name in ("batch_size", "steps", "keep", "log_every", "accumulate", "eval_tokens"):
        if config[name] < 1:
            raise UserError(f"--config.{name} is {config[name]}, expected at least 1")
    for name in ("eval_every", "checkpoint_every", "warmup_steps", "seed", "duplicates"):
        if config[name] < 0:
            raise UserError(f"--config.{name} is {config[name]}, expected 0 or more")
    if config.seed > LARGEST_SEED:
        raise UserError(f"--config.seed is {config.seed}, expected at most {LARGEST_SEED}")
    if not 0 < config.learning_rate < float("inf"):
        raise UserError(
            f"--config.learning_rate is {config.learning_rate}, expected a positive number"
        )
    if not 0 < config.b2 < 1:
        raise UserError(f"--config.b2 is {config.b2}, expected a number between 0 and 1")
    if config.epsilon is not None and not 0 < config.epsilon < float("inf"):
        raise UserError(f"--config.epsilon is {config.epsilon}, expected a positive number")
    for name in ("weight_decay", "clip_norm"):
        if not 0 <= config[name] < float("inf"):
            raise UserError(f"--config.{name} is {config[name]}, expected 0 or a positive number")
    for name in ("corpus_weights", "masking.mixture"):
        config.update_from_flattened_dict({name: _numbers(config, name)})
    if config.objective not in OBJECTIVES:
        raise UserError(
            f"--config.objective={config.objective!r} is unknown"
            f"{nearest(config.objective, OBJECTIVES)}; expected one of {', '.join(OBJECTIVES)}"
        )
    for name in ("short_share", "final_rate"):
        if not 0 <= config[name] <= 1:
            raise UserError(f"--config.{name} is {config[name]}, expected a share, 0 to 1")
    check_read(config)
    phase_steps(_phases(config), config.steps)
    if config.batch_size % config.accumulate:
        raise UserError(
            f"--config.accumulate={config.accumulate} does not divide "
            f"--config.batch_size={config.batch_size}"
        )
    if config.warmup_steps >= config.steps:
        raise UserError(
            f"--config.warmup_steps={config.warmup_steps} leaves no step of "
            f"--config.steps={config.steps} after it; expected fewer"
        )
    if not config.corpus:
        raise UserError(
            "no corpus: expected --config.corpus=STORE, a folder that "
            "`gptbert prepare-corpus --tokenizer=DIR --input='GLOB' --output=STORE` makes"
        )
    checkpoint_steps(config)
    make_schedule(config.schedule, config.learning_rate, config.warmup_steps, config.steps)


def _numbers(config: ConfigDict, name: str) -> tuple[float, ...]:
    """A field that lists numbers, which a command line may give as words: 3,1."""
    given = config.to_dict()
    for part in name.split("."):
        given = given[part]
    try:
        return tuple(float(each) for each in given)
    except (TypeError, ValueError):
        raise UserError(
            f"--config.{name} is {given!r}, expected numbers with commas between them"
        ) from None


def _phases(config: ConfigDict) -> list[tuple[float, int]]:
    """(share of the steps, tokens of an example) of each phase."""
    try:
        return [(float(share), operator.index(length)) for share, length in config.phases]
    except (TypeError, ValueError, OverflowError):
        raise UserError(
            f"--config.phases={config.phases}: expected pairs (share of the steps, tokens of an "
            "example), such as ((0.9,128),(0.1,512))"
        ) from None


def checkpoint_steps(config: ConfigDict) -> tuple[int, ...]:
    """Steps whose checkpoints are kept for good: as listed, or 1, 2, 4, 8, … for 'log'."""
    if config.checkpoint_at == "log":
        return tuple(2**k for k in range(config.steps.bit_length()) if 2**k <= config.steps)
    steps = [step.strip() for step in config.checkpoint_at.split(",") if step.strip()]
    if bad := [step for step in steps if not step.isdecimal()]:
        raise UserError(
            f"--config.checkpoint_at={config.checkpoint_at!r}: {bad[0]!r} is no step; expected "
            "steps such as 100,1000, or log"
        )
    found = tuple(map(int, steps))
    if outside := [step for step in found if not 1 <= step <= config.steps]:
        raise UserError(
            f"--config.checkpoint_at={config.checkpoint_at!r}: there is no step {outside[0]}; "
            f"expected 1 to --config.steps={config.steps}"
        )
    return found


def _shape(config: ConfigDict, weights: Weights | None, tokenizer: Tokenizer) -> ModelConfig:
    """The model: that of the weights, or the preset with the vocabulary of the corpus."""
    if weights is not None:
        shape = weights.config
        if not is_table_of(shape.vocabulary, tokenizer.vocabulary_size):
            raise UserError(
                f"the weights in {config.init_from} have {shape.vocabulary:,} entries, the corpus "
                f"{tokenizer.vocabulary_size:,}; {prepare_with(config.init_from)}"
            )
    else:
        shape = dataclasses.replace(preset(config.model), vocabulary=tokenizer.vocabulary_size)
    causal = config.objective in ("next_token", "left_to_right")
    if isinstance(shape, GptConfig) != (config.objective == "next_token"):
        kind = "GPT" if isinstance(shape, GptConfig) else "BERT"
        raise UserError(
            f"--config.objective={config.objective} does not go with a {kind} "
            f"({config.init_from or config.model}); BERT learns mlm_nsp, mlm or left_to_right, "
            "GPT and GPT-2 next_token"
        )
    # The recipe's, not what the weights were trained with.
    rate = preset(config.model).dropout if config.dropout is None else config.dropout
    changes: dict[str, Any] = {"dropout": rate, "attention_dropout": rate}
    changes |= {"embedding_dropout": rate} if isinstance(shape, GptConfig) else {}
    if isinstance(shape, BertConfig):
        changes["left_to_right"] = causal
    longest = max(length for _, length in _phases(config))
    if longest > shape.positions:
        raise UserError(
            f"--config.phases has examples of {longest} tokens, the model knows "
            f"{shape.positions} positions"
        )
    return dataclasses.replace(shape, **changes)


def _other_shape(config: ConfigDict, model: ModelConfig) -> str:
    """In what a model differs from the preset that the config names; empty if it does not."""
    named = preset(config.model)
    if type(named) is not type(model):
        return "another kind of model"
    sizes = ("layers", "width", "heads", "inner", "positions", "norm_place")
    return ", ".join(
        f"{name} {getattr(model, name)} instead of {getattr(named, name)}"
        for name in sizes
        if getattr(model, name, None) != getattr(named, name, None)
    )


def _builder(objective: str, model: ModelConfig, compute: Compute) -> Callable[[Any], Any]:
    """Makes the module of an objective from nnx.Rngs."""
    if objective in ("mlm_nsp", "mlm"):
        assert isinstance(model, BertConfig)
        return functools.partial(_masked, model, compute, objective == "mlm_nsp")
    return functools.partial(NextTokenModel, model, compute)


def _masked(
    model: BertConfig, compute: Compute, next_sentence: bool, rngs: Any
) -> MaskedLanguageModel:
    return MaskedLanguageModel(model, compute, rngs, next_sentence)


def _creation(config: ConfigDict) -> tuple[Creation, Masking]:
    masking = config.masking
    creation = Creation(
        config.objective, short_share=config.short_share, duplicates=config.duplicates
    )
    mixture = tuple(masking.mixture)
    return creation, Masking(masking.rate, mixture, masking.whole_words, masking.most)


def _plan(
    config: ConfigDict,
    phases: Sequence[tuple[float, int]],
    mixture: Mixture,
    tokenizer: Tokenizer,
    layout: Layout,
    costs: CostModel,
) -> PhasedPlan:
    """The plan of the training."""
    multiple = layout.row_multiple * config.accumulate
    if config.objective != "next_token":
        creation, masking = _creation(config)
        return plan_instances(
            mixture, tokenizer, phases=phases, batch_size=config.batch_size, steps=config.steps,
            seed=config.seed, costs=costs, creation=creation, masking=masking,
            row_multiple=multiple, pieces=config.accumulate,
        )  # fmt: skip
    return PhasedPlan(
        tuple(
            plan_windows(
                mixture, tokenizer, length=length, batch_size=config.batch_size, steps=steps,
                seed=config.seed, row_multiple=multiple, pieces=config.accumulate,
            )
            for length, steps in phase_steps(phases, config.steps)
        )
    )  # fmt: skip


def _held_out(
    config: ConfigDict, mixture: Mixture, tokenizer: Tokenizer, layout: Layout, costs: CostModel
) -> HeldOut:
    """What is scored, with examples as long as those of the last phase."""
    length = _phases(config)[-1][1]
    sizes: dict[str, Any] = {
        "batch_size": max(1, min(config.batch_size, _EVALUATION_TOKENS // length)),
        "most_tokens": config.eval_tokens,
        "row_multiple": layout.row_multiple,
    }
    if config.objective == "next_token":
        return held_out_windows(mixture, tokenizer, length=length, **sizes)
    creation, masking = _creation(config)
    creation = dataclasses.replace(creation, length=length)
    return held_out_instances(
        mixture, tokenizer, creation=creation, masking=masking, costs=costs, **sizes
    )
