"""Between the state that a run computes with and its checkpoints on disk."""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from gptbert.runs.folder import RunFolder
from gptbert.training.sharding import Layout
from gptbert.training.state import TrainState, abstract, computed_form, saved_form
from gptbert.training.trainer import Progress
from gptbert.weights.checkpoints import Checkpoints
from gptbert.weights.run_folder import tell_damaged


def tell_lost(folder: RunFolder) -> None:
    """Says on stderr that a finished run has lost the checkpoint that its figures come from."""
    step = folder.read("results.json").get("checkpoint", {}).get("step", 0)
    checkpoints = Checkpoints(folder.checkpoints)
    wrong = checkpoints.verify(step) if step in checkpoints.steps() else ["gone"]
    if wrong:
        print(
            f"note: the checkpoint of step {step}, which the figures come from, is damaged "
            f"({', '.join(wrong[:3])}); without {folder.results} the same command trains again "
            "from the last good one",
            file=sys.stderr,
        )


class Saving:
    """Saves and restores one run's states, each array straight to the devices that hold it."""

    def __init__(
        self,
        folder: Path,
        state: Any,
        layout: Layout,
        *,
        vocabulary: int,
        scan_layers: bool,
        keep: int,
        began: float | None = None,
    ) -> None:
        """`state` (arrays or shapes) is of the form that the run computes with.

        `began` is `time.perf_counter()` at the start of this piece of the run, now if None.
        """
        self._began = time.perf_counter() if began is None else began
        self._wall_before = 0.0
        self._checkpoints = Checkpoints(folder, keep=keep)
        self._layout, self._scan_layers = layout, scan_layers
        self._saved_form = jax.jit(functools.partial(saved_form, vocabulary=vocabulary))
        shapes = jax.eval_shape(self._saved_form, abstract(state))
        self._on_disk = jax.tree.map(
            lambda shape, place: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=place),
            shapes,
            layout.stored_tree(shapes),
        )

    def save(self, state: TrainState, progress: Progress, keep_also: set[int]) -> None:
        """Writes a checkpoint; a `training.trainer.Saver`."""
        progress.wall_seconds = self.wall_seconds()
        self._checkpoints.save(
            int(state.step),
            self._saved_form(state),
            dataclasses.asdict(progress),
            keep_also=keep_also,
        )

    def restore(self, step: int | None = None) -> tuple[TrainState, Progress] | None:
        """The newest good state (or that of `step`); None if there is no checkpoint."""
        found = self._checkpoints.restore(self._on_disk, step)
        if found is None:
            return None
        state = computed_form(
            found.state, self._layout, scan_layers=self._scan_layers, consume=True
        )
        return state, Progress(**found.info)

    def wall_seconds(self) -> float:
        """Wall-clock until now: of this piece, and of earlier ones up to their checkpoints."""
        return self._wall_before + time.perf_counter() - self._began

    def good_steps(self) -> list[int]:
        """The steps whose checkpoints are there and whole."""
        return self._checkpoints.good_steps()

    def resume(
        self, fresh: Callable[[], TrainState], steps: int, *, quiet: bool
    ) -> tuple[TrainState, Progress]:
        """Where the run goes on: its newest good state, or at the first start what `fresh` makes.

        Removes what a killed save left, and tells of damaged checkpoints. A state of the start is
        made only where it is needed: beside a restored one the devices would hold both.
        """
        self._checkpoints.clean()
        tell_damaged(self._checkpoints.find()[1])
        restored = self.restore()
        if restored is None:
            return fresh(), Progress()
        self._wall_before = restored[1].wall_seconds
        if not quiet:
            print(f"continuing after step {int(restored[0].step)} of {steps}", file=sys.stderr)
        return restored
