"""The plan of a pre-training run: every batch by step, a pure function of corpora, config and seed.

`plan_instances` for BERT (`instance_plan`), `plan_windows` for GPT and GPT-2 (`window_plan`);
`held_out` has the plans of evaluations.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from gptbert.errors import UserError
from gptbert.pipeline.batch import Batch
from gptbert.pipeline.instance_plan import (
    SLOTS,
    InstancePlan,
    InstanceStream,
    instance_shapes,
    round_up,
)
from gptbert.pipeline.instance_rows import Vocabulary
from gptbert.pipeline.instances import Creation
from gptbert.pipeline.masking import Masking
from gptbert.pipeline.mixture import Mixture
from gptbert.pipeline.plan import CostModel
from gptbert.pipeline.window_plan import WindowPlan, WindowStream
from gptbert.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class PhasedPlan:
    """Plans one after another: a run whose sequence length grows.

    Phases of one length are one sequence of batches, cut up: a later one goes on where the one
    before it ended, so that nothing is met again before its time.

    Attributes:
      phases: Of equal batch size and pieces; those of one length with equal shapes.
    """

    phases: tuple[InstancePlan | WindowPlan, ...]

    @property
    def steps(self) -> int:
        """Of all phases."""
        return sum(phase.steps for phase in self.phases)

    @property
    def batch_size(self) -> int:
        """B."""
        return self.phases[0].batch_size

    @property
    def pieces(self) -> int:
        """Gradient accumulation."""
        return self.phases[0].pieces

    @property
    def tokens_per_byte(self) -> float | None:
        """Predicted tokens a UTF-8 byte of the text; None where the loss is not that of a text."""
        return self.phases[0].tokens_per_byte

    def phase(self, step: int) -> tuple[InstancePlan | WindowPlan, int]:
        """The phase of a step, and the step's number among those of phases of its length."""
        within, before = step, Counter[int]()
        for phase in self.phases:
            if within < phase.steps:
                return phase, before[phase.length] + within
            within -= phase.steps
            before[phase.length] += phase.steps
        raise IndexError(f"step {step} of a run of {self.steps}")

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """Batch `step`, or of `parts` equal contiguous shares of its rows that of `part`."""
        phase, within = self.phase(step)
        return phase.batch(within, part, parts)

    def abstract_batches(self) -> list[Batch]:
        """The whole batch of every shape, the first phase's first; those of one length once."""
        first = {phase.length: phase for phase in reversed(self.phases)}
        return [
            batch
            for phase in self.phases
            if phase is first[phase.length]
            for batch in phase.abstract_batches()
        ]

    def epoch(self, step: int) -> float:
        """Passes over all corpora after `step` steps, over all phases."""
        passes = 0.0
        for phase in self.phases:
            passes += phase.epoch(min(step, phase.steps))
            step = max(0, step - phase.steps)
        return passes


def plan_instances(
    mixture: Mixture,
    tokenizer: Tokenizer,
    *,
    phases: Sequence[tuple[float, int]],
    batch_size: int,
    steps: int,
    seed: int,
    costs: CostModel,
    creation: Creation | None = None,
    masking: Masking | None = None,
    row_multiple: int = 1,
    pieces: int = 1,
    slots: int = SLOTS,
) -> PhasedPlan:
    """The plan of BERT's pre-training (section 3.1, A.2) or of its ablations (5.1, C.2).

    Args:
      mixture: Train splits.
      tokenizer: The one that made them.
      phases: (share of the steps, sequence length); the paper's are ((0.9, 128), (0.1, 512)).
      batch_size: B, examples of one step of the whole job.
      steps: Of the whole run.
      seed: Of examples, masks and their order.
      costs: From `plan.cost_model`, to choose the shapes.
      creation: Objective and the rest; its `length` is replaced by that of each phase.
      masking: 15%, 80/10/10 by default.
      row_multiple: Rows are rounded up to a multiple of it (devices x pieces).
      pieces: Gradient accumulation.
      slots: Examples that may share a row; 1 for none.

    Raises:
      UserError: Phases that do not fit the steps, a tokenizer without the special tokens, a corpus
        without text or without pairs of sentences.
    """
    creation, masking = creation or Creation(), masking or Masking()
    vocabulary = vocabulary_of(tokenizer, creation.objective)
    planned = phase_steps(phases, steps)
    steps_of = Counter[int]()
    for length, count in planned:
        steps_of[length] += count
    plans = {}
    for length, count in steps_of.items():
        made = dataclasses.replace(creation, length=length)
        examples = InstanceStream(mixture, made, seed)
        shapes = instance_shapes(
            examples, made, batch_size=batch_size, steps=count, costs=costs,
            row_multiple=row_multiple, slots=slots,
        )  # fmt: skip
        plans[length] = InstancePlan(
            examples, made, masking, vocabulary, batch_size, count, shapes, pieces
        )
    return PhasedPlan(
        tuple(dataclasses.replace(plans[length], steps=count) for length, count in planned)
    )


def plan_windows(
    mixture: Mixture,
    tokenizer: Tokenizer,
    *,
    length: int,
    batch_size: int,
    steps: int,
    seed: int,
    row_multiple: int = 1,
    pieces: int = 1,
) -> WindowPlan:
    """The plan of GPT's and GPT-2's pre-training: arguments as of `plan_instances`.

    Raises:
      UserError: A corpus is shorter than one window.
    """
    stream = WindowStream(mixture, length, tokenizer.special.end_of_text, seed)
    return WindowPlan(stream, batch_size, steps, round_up(batch_size, row_multiple), pieces)


def phase_steps(phases: Sequence[tuple[float, int]], steps: int) -> list[tuple[int, int]]:
    """(sequence length, steps) of each phase.

    Raises:
      UserError: Shares that do not sum to 1, a length below 1, or a phase without a step.
    """
    if not phases or not abs(sum(share for share, _ in phases) - 1) <= 1e-6:
        raise UserError(
            f"phases {tuple(phases)}: expected (share of the steps, sequence length) pairs whose "
            "shares sum to 1 (--config.phases)"
        )
    planned, begin, passed = [], 0, 0.0
    for share, length in phases:
        if length < 1:
            raise UserError(
                f"sequence length {length} leaves no room for text; expected at least 1 "
                "(--config.phases)"
            )
        passed += share
        end = round(passed * steps)
        if end <= begin:
            raise UserError(
                f"a share of {share} of {steps} steps leaves no step for sequence length {length}; "
                "expected more steps (--config.steps) or fewer phases (--config.phases)"
            )
        planned.append((length, end - begin))
        begin = end
    return planned


def vocabulary_of(tokenizer: Tokenizer, objective: str) -> Vocabulary:
    """What laying out instances needs; UserError for a tokenizer without BERT's special tokens."""
    cls, sep = tokenizer.special.require("cls", "sep")
    mask = None if objective == "left_to_right" else tokenizer.special.require("mask")[0]
    return Vocabulary(cls, sep, mask, tokenizer.vocabulary_size, tokenizer.continues)
