"""What a run tells while it runs: `metrics.jsonl`, TensorBoard events, a progress bar.

One JSON object a line with `step` and slash-separated names (`train/loss`, `eval/accuracy`). On a
terminal there is a progress bar; elsewhere a plain line now and then.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`; what a kill or a power cut left of a line is left out."""
    records: list[dict[str, Any]] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            with contextlib.suppress(json.JSONDecodeError):
                records.append(json.loads(line))
    return records


class RunLog:
    """Writes scalars of steps; on resume, records after `start_step` are taken back first."""

    def __init__(
        self, folder: Path | None, *, start_step: int, total_steps: int, quiet: bool
    ) -> None:
        """`folder` None is for the processes of a job that write nothing."""
        self._outputs = contextlib.ExitStack()
        self._file: Any = None
        if folder is not None:
            self._open(folder, start_step)
        self._bar = tqdm(
            total=total_steps,
            initial=start_step,
            unit="step",
            disable=quiet or not sys.stderr.isatty(),
            dynamic_ncols=True,
        )
        self._quiet, self._total = quiet, total_steps

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._outputs.close()

    def _open(self, folder: Path, start_step: int) -> None:
        path = folder / "metrics.jsonl"
        kept = [r for r in read_metrics(path) if r.get("step", 0) <= start_step]
        partial = path.with_suffix(".jsonl.partial")
        partial.write_text("".join(json.dumps(r) + "\n" for r in kept), encoding="utf-8")
        partial.replace(path)
        self._file = self._outputs.enter_context(path.open("a", encoding="utf-8"))
        self._events = self._outputs.enter_context(_Events(folder / "tensorboard", start_step))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Records the values of one step; numbers that are not finite become null in JSON."""
        if self._file is None:
            return
        clean = {k: v if math.isfinite(v) else None for k, v in values.items()}
        self._file.write(json.dumps({"step": step, **clean}) + "\n")
        self._file.flush()
        self._events.scalars(step, values)

    def progress(self, step: int, values: Mapping[str, float], seconds_left: float) -> None:
        """Moves the bar to `step`, or prints a line where there is no terminal.

        `seconds_left` is told by the line; the bar has an estimate of its own.
        """
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        if not self._bar.disable:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)
        elif not self._quiet:
            text += f", {tqdm.format_interval(seconds_left)} left"
            print(f"step {step}/{self._total}: {text}", file=sys.stderr, flush=True)

    def say(self, message: str) -> None:
        """Prints a line without disturbing the bar."""
        if not self._quiet:
            tqdm.write(message, file=sys.stderr)


class _Events:
    """TensorBoard's file, written by the thread that trains: a full disk is an error there.

    (`tensorboardX.SummaryWriter` writes in a thread of its own. When that one dies, the next
    records wait for it for ever.)
    """

    def __init__(self, folder: Path, start_step: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        folder.mkdir(exist_ok=True)
        goes_on = any(folder.iterdir())
        self._writer = EventsWriter(str(folder / "events"))
        if goes_on:  # what an earlier process wrote after that step is not shown
            self._write(start_step + 1, session_log=SessionLog(status=SessionLog.START))
        self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        found = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(step, summary=Summary(value=found))
        self._writer.flush()

    def _write(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(wall_time=time.time(), step=step, **content))
