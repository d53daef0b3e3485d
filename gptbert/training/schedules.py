"""Learning rates by step, counted from 0: the schedules of the papers and of their released code.

| name | rate of step s of n, with w steps of warm-up | source |
| --- | --- | --- |
| `bert` | s/w before w, then 1 - s/n | google-research/bert `optimization.py` |
| `gpt_linear` | (s/w before w, else 1) (1 - s/n) | openai/finetune-transformer-lm `opt.py` |
| `gpt_cosine` | s/w up to w, then (1 + cos(pi s/n)) / 2 | GPT section 4.1, `opt.py` |
| `cosine` | (s+1)/w before w, then from 1 to `final` along half a cosine | GPT-2's reproductions |
| `constant` | (s+1)/w before w, then 1 | |

All are multiplied by the peak rate. With warm-up the first three have rate 0 at the first step, as
released. In `bert` the rate jumps down when warm-up ends; in `gpt_cosine` the cosine counts from
the first step of the run, so that it jumps as well. The paper of GPT-2 names none: `cosine` is what
its reproductions agree on.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gptbert.errors import UserError, nearest

Schedule = Callable[[int], float]
SCHEDULES = ("bert", "gpt_linear", "gpt_cosine", "cosine", "constant")


def make_schedule(
    name: str, peak: float, warmup_steps: float, total_steps: int, *, final: float = 0.0
) -> Schedule:
    """The schedule called `name`.

    Args:
      name: One of `SCHEDULES`.
      peak: The rate that everything is multiplied by.
      warmup_steps: w; 0 for none. GPT's code measures it as a share of the run, so that it may be
        a fraction of a step; BERT's counts whole steps.
      total_steps: n.
      final: What `cosine` ends at, as a share of the peak.

    Raises:
      UserError: An unknown name.
    """
    if name not in SCHEDULES:
        raise UserError(
            f"schedule {name!r} is unknown{nearest(name, SCHEDULES)}; "
            f"expected one of {', '.join(SCHEDULES)} (--config.schedule)"
        )
    shapes: dict[str, Callable[[int], float]] = {
        "bert": lambda s: s / warmup_steps if s < warmup_steps else 1.0 - s / total_steps,
        "gpt_linear": lambda s: (
            (s / warmup_steps if s < warmup_steps else 1.0) * (1.0 - s / total_steps)
        ),
        "gpt_cosine": lambda s: (
            s / warmup_steps
            if warmup_steps and s <= warmup_steps
            else 0.5 * (1.0 + math.cos(math.pi * s / total_steps))
        ),
        "cosine": lambda s: (
            (s + 1) / warmup_steps
            if s < warmup_steps
            else final + (1.0 - final) * _falling(s - warmup_steps, total_steps - warmup_steps)
        ),
        "constant": lambda s: min(1.0, (s + 1) / max(warmup_steps, 1)),
    }
    shape = shapes[name]
    return lambda step: peak * shape(step)


def _falling(step: float, steps: float) -> float:
    """From 1 at step 0 to 0 after the last step, along half a cosine."""
    return 0.5 * (1.0 + math.cos(math.pi * step / max(steps, 1)))


def with_bias_correction(schedule: Schedule, b1: float = 0.9, b2: float = 0.999) -> Schedule:
    """The rate times sqrt(1 - b2^t) / (1 - b1^t), t = step + 1: where GPT's Adam corrects.

    So epsilon is added to the uncorrected root and the decay is multiplied by the factor too, as
    in `opt.py`.
    """

    def rate(step: int) -> float:
        t = step + 1
        return schedule(step) * math.sqrt(1.0 - b2**t) / (1.0 - b1**t)

    return rate
