"""The protocol of the contestants: a process takes steps when it is told to, and else waits.

out  {"ready": true, ...}
in   steps 5
out  {"seconds": [5 floats], "minor_faults": 0, "user_seconds": 5.1, "system_seconds": 0.1,
      "max_rss_kib": 1100000}
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).parent


def contestant_flags(description: str, kinds: Sequence[str]) -> argparse.Namespace:
    """What every contestant is told when it starts."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--kind", choices=kinds, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dropout", type=float, required=True)
    return parser.parse_args()


@contextlib.contextmanager
def answers():
    """Yields what writes one JSON line; whatever a library prints goes to stderr."""
    out = os.dup(1)
    os.dup2(2, 1)
    yield lambda line: os.write(out, (json.dumps(line) + "\n").encode())


def obey(say: Callable[[dict], object], take: Callable[[int], dict], about: dict) -> None:
    """Answers orders until stdin ends. `take` takes so many steps and tells their `seconds`."""
    say({"ready": True, **about})
    for order in sys.stdin:
        before = _used()
        found = take(int(order.split()[1]))
        used = {name: round(value - before[name], 3) for name, value in _used().items()}
        say({**found, **used, "max_rss_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss})


def timed(step: Callable[[int], float]) -> Callable[[int], dict]:
    """Makes the `take` of `obey` from what takes step number 0, 1, … and returns its loss."""
    numbers = itertools.count()

    def take(count: int) -> dict:
        seconds = []
        for number in itertools.islice(numbers, count):
            began = time.perf_counter()
            loss = step(number)
            seconds.append(round(time.perf_counter() - began, 6))
            if not math.isfinite(loss):
                raise SystemExit(f"the loss became {loss}")
        return {"seconds": seconds}

    return take


def _used() -> dict[str, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "minor_faults": usage.ru_minflt,
        "user_seconds": usage.ru_utime,
        "system_seconds": usage.ru_stime,
    }


class Contestant:
    """The driver's side: a process that waits."""

    def __init__(self, script: str, kind: str, model: str, dropout: float) -> None:
        self.kind = kind
        flags = [f"--kind={kind}", f"--model={model}", f"--dropout={dropout}"]
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / script), *flags],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.about: dict = {}

    def _read(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(
                f"{self.kind} ended without an answer: its message is above, or memory ran out"
            )
        return json.loads(line)

    def wait_until_ready(self) -> None:
        """Blocks until the process is set up."""
        self.about = self._read()

    def steps(self, count: int) -> dict:
        """Takes steps; returns the contestant's answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what is read then says that it ended
            self._process.stdin.write(f"steps {count}\n")
            self._process.stdin.flush()
        return self._read()

    def end(self) -> None:
        """Lets the process go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
