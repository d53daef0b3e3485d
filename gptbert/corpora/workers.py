"""Worker processes: units out, progress back; none survives whoever started them.

A pool of the standard library's would do, but for two things: its idle workers outlive a parent
that is killed, and a worker that is killed (by lack of memory, say) hangs it or ends it without a
word about what the worker was reading.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from gptbert.corpora.units import Setup, UnitEncoder
from gptbert.errors import Interrupted, RunFailed, UserError
from gptbert.runtime import StopRequest

Task = tuple[int, Sequence[Any], Sequence[str]]  # unit, its sources, its pieces that are there

_FOR_THE_PARENT = (signal.SIGINT, signal.SIGTERM)
_TOLD_EVERY = 0.2  # seconds between two words on progress
_PATIENCE = 0.2  # seconds until a request to stop is seen


def encode_units(
    setup: Setup, tasks: Sequence[Task], workers: int, stop: StopRequest
) -> Iterator[tuple[int, int | None]]:
    """Has all tasks done; yields (unit, bytes of it read), and (unit, None) when it is done.

    Raises:
      UserError: What a worker met, for instance a full disk.
      RunFailed: A worker was killed.
      Interrupted: `stop` was asked for.
    """
    waiting = list(reversed(tasks))
    with _crew(setup, min(workers, len(tasks))) as crew:
        idle, busy = list(crew), dict[Connection, Task]()
        while waiting or busy:
            while waiting and idle:
                connection = idle.pop()
                busy[connection] = waiting.pop()
                _send(connection, crew[connection], busy[connection])
            for ready in wait(list(busy), timeout=_PATIENCE):
                assert isinstance(ready, Connection)
                number = busy[ready][0]
                read = _receive(ready, crew[ready], busy[ready])
                if read is None:
                    del busy[ready]
                    idle.append(ready)
                yield number, read
            if stop:
                raise Interrupted(
                    "stopped on request; what is encoded is kept, the same command continues"
                )


@contextlib.contextmanager
def _crew(setup: Setup, count: int) -> Iterator[dict[Connection, Any]]:
    """Starts workers; whatever happens, they are gone afterwards."""
    context = multiprocessing.get_context("spawn")  # forking a process with threads may hang
    crew: dict[Connection, Any] = {}
    try:
        # Ctrl-C, and SIGTERM from whoever manages a service, reach the whole group: workers inherit
        # that they are not meant, the parent acts. The tracker, which starts with the first worker
        # otherwise, would undo the mask.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
        try:
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, setup), daemon=True)
                process.start()
                theirs.close()
                crew[ours] = process
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield crew
    finally:
        for process in crew.values():
            process.kill()
        for connection, process in crew.items():
            process.join()
            connection.close()


def _send(connection: Connection, process: Any, task: Task) -> None:
    try:
        connection.send(task)
    except OSError:
        raise _lost(process, task) from None


def _receive(connection: Connection, process: Any, task: Task) -> int | None:
    try:
        kind, value = connection.recv()
    except (EOFError, OSError):
        raise _lost(process, task) from None
    if kind == "refused":
        raise UserError(value)
    if kind == "bug":
        raise RuntimeError(f"in a worker, reading {task[1][0].name}:\n{value}")
    return None if kind == "done" else int(value)


def _lost(process: Any, task: Task) -> RunFailed:
    process.join(1)
    return RunFailed(
        f"a worker that read {task[1][0].name} ended with exit code {process.exitcode} "
        "(-9: killed, most often for lack of memory); start the same command again, with fewer "
        "--workers if memory is short: it continues"
    )


def _work(connection: Connection, setup: Setup) -> None:
    """The life of a worker."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        encoder = UnitEncoder(setup)
        while True:
            number, unit, names = connection.recv()
            told = time.monotonic()
            for read in encoder.run(number, unit, names):
                if time.monotonic() - told > _TOLD_EVERY:
                    _tell(connection, "read", read)
                    told = time.monotonic()
            _tell(connection, "done", number)
    except UserError as error:
        _tell(connection, "refused", str(error))
    except EOFError:
        return
    except Exception:
        _tell(connection, "bug", traceback.format_exc())


def _tell(connection: Connection, kind: str, value: Any) -> None:
    try:
        connection.send((kind, value))
    except OSError:  # whoever asked is gone
        os._exit(1)


def _end_with_parent() -> None:
    """Ends this process as soon as the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
