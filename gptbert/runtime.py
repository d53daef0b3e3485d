"""What must happen before JAX starts, and how a run is asked to stop.

XLA's CPU client allocates every step's buffers anew with `malloc`; glibc hands blocks of that size
to `mmap`, so that each step gets fresh pages and the kernel zeroes them: half a second of system
time in a one-second step. Four calls of `mallopt`, made before JAX's threads exist, keep the
memory in one heap instead. The price is fragmentation: a freed block is a few bytes too small for
the next one of its size wherever something small has settled beside it, so that the heap grows to
several blocks. Once the process holds half of the machine's memory, `bound_heap` sends blocks that
fit nowhere to `mmap` again. `GPTBERT_ALLOCATOR=0` leaves the allocator as it is.

Environment variables (all optional; what the user has set is never overridden):

| variable | meaning |
| --- | --- |
| `GPTBERT_ALLOCATOR` | `0`: do not tune glibc's allocator |
| `GPTBERT_ONEDNN` | `0`: never multiply with oneDNN; `1`: in short runs too (`training.products`) |
| `GPTBERT_COMPILATION_CACHE` | its folder, `0` for none; default `~/.cache/gptbert/xla` |
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from gptbert.errors import EXIT_RUN_FAILED, UserError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_USUAL_MMAP_MAX = 65536  # glibc's own

_heap_is_kept = False


def prepare() -> None:
    """Sets the process up: allocator, compilation cache. Call before anything imports JAX."""
    if "jax" not in sys.modules and os.environ.get("GPTBERT_ALLOCATOR") != "0":
        tune_allocator()
    _set_compilation_cache()


def tune_allocator() -> bool:
    """Keeps freed memory in one heap; True if this C library could be told so (glibc)."""
    global _heap_is_kept
    settings = (
        (_M_ARENA_MAX, 1),  # every thread uses the main heap: others fall back to mmap
        (_M_MMAP_MAX, 0),  # never mmap a block
        (_M_TRIM_THRESHOLD, -1),  # never give the top of the heap back, however large it is
        (_M_TOP_PAD, 64 << 20),  # grow in steps of 64 MiB
    )
    done = [_mallopt(key, value) for key, value in settings]
    _heap_is_kept = all(done)
    return _heap_is_kept


def bound_heap(most: int | None = None) -> bool:
    """Ends the growth of a kept heap, once and for all, where the process has become too large.

    What fits into the heap's holes still goes there; a block that does not gets pages of its own.

    Args:
      most: Bytes that the process may hold; half of the machine's memory by default.

    Returns:
      Whether the heap was bounded by this call.
    """
    global _heap_is_kept
    if not _heap_is_kept or resident_bytes() <= (memory_limit() // 2 if most is None else most):
        return False
    _heap_is_kept = False
    return _mallopt(_M_MMAP_MAX, _USUAL_MMAP_MAX)


def resident_bytes() -> int:
    """Memory that this process holds now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@functools.cache
def memory_limit() -> int:
    """Bytes of memory of the machine, or of the container if it may use less (Linux)."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or "max"
        return machine


def _mallopt(key: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(key, value))


def _set_compilation_cache() -> None:
    """Compiled programs are kept per user: entries hold features of this very machine."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    chosen = os.environ.get("GPTBERT_COMPILATION_CACHE")
    if chosen == "0":
        return
    try:  # a user without a home, or one that cannot be written, does without
        folder = Path(chosen) if chosen else Path.home() / ".cache" / "gptbert" / "xla"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1")


class StopRequest:
    """Becomes true when the process is asked to stop (SIGTERM)."""

    def __init__(self) -> None:
        self._asked = False

    def __bool__(self) -> bool:
        return self._asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked = True


_request: StopRequest | None = None  # that of `stop_on_sigterm`, while it is active
JOIN_SECONDS = 300  # until all processes of a job must have come together
_LOST = re.compile(
    r"Gloo|Connection (closed|reset)|heartbeat|coordination (service|agent)|UNAVAILABLE|"
    r"DEADLINE_EXCEEDED",
    re.IGNORECASE,
)
_distributed = False


def start_distributed(coordinator: str, processes: int | None, process: int | None) -> None:
    """Joins this process to a job of several; before anything of JAX is computed.

    Args:
      coordinator: `HOST:PORT` of process 0, or `auto` where JAX finds everything itself (TPU pods,
        Slurm).
      processes: How many there are.
      process: Which one this is, from 0.

    Raises:
      UserError: An incomplete or impossible description of the job.
    """
    global _distributed
    if coordinator == "auto":
        if processes is not None or process is not None:
            raise UserError(
                "--coordinator=auto finds by itself how many processes there are and which one "
                "this is; expected it without --processes and --process"
            )
    else:
        if processes is None or process is None or not 0 <= process < processes:
            raise UserError(
                f"--coordinator={coordinator} with --processes={processes} --process={process}: "
                "expected how many processes there are and which one this is, from 0; or "
                "--coordinator=auto on a TPU pod"
            )
        _check_address(coordinator)
    import jax

    patience = JOIN_SECONDS + 60  # `_waiting` ends it before
    with _waiting(coordinator, process):
        if coordinator == "auto":
            try:
                jax.distributed.initialize(initialization_timeout=patience)
            except ValueError as error:
                raise UserError(
                    f"--coordinator=auto found no job of several processes here ({error}); "
                    "expected a TPU pod or Slurm, or --coordinator=HOST:PORT with --processes and "
                    "--process"
                ) from None
        else:
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                initialization_timeout=patience,
                shutdown_timeout_seconds=20,
            )
    _distributed = True


def _check_address(coordinator: str) -> None:
    """Refuses what is no `HOST:PORT`, or a host without an address."""
    found = re.fullmatch(r"(.+):(\d+)", coordinator)
    if not found or not 0 < int(found[2]) < 65536:
        raise UserError(f"--coordinator={coordinator!r}: expected HOST:PORT, or auto")
    try:
        socket.getaddrinfo(found[1].strip("[]"), int(found[2]))
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"--coordinator={coordinator}: the host {found[1]} has no address here ({error}); "
            "expected that of process 0"
        ) from None


@contextlib.contextmanager
def _waiting(coordinator: str, process: int | None) -> Iterator[None]:
    """Says that the others are waited for; ends the process in one sentence if they do not come.

    JAX would end it with an abort.
    """
    me = "this process" if process is None else f"process {process}"
    where = "" if coordinator == "auto" else f" at {coordinator}"

    def tell() -> None:
        print(f"gptbert: {me} waits for the others of the job{where}", file=sys.stderr, flush=True)

    def give_up() -> None:
        print(
            f"gptbert: the run failed: after {JOIN_SECONDS} s not all processes of the job had "
            f"come together{where}; expected the same command on each host, but for --process",
            file=sys.stderr,
            flush=True,
        )
        os._exit(EXIT_RUN_FAILED)

    timers = [threading.Timer(5, tell), threading.Timer(JOIN_SECONDS, give_up)]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def lost_a_process(error: BaseException) -> bool:
    """Whether this is how JAX tells that another process of the job is gone."""
    return _distributed and bool(_LOST.search(str(error)))


def is_distributed() -> bool:
    """Whether this process belongs to a job of several."""
    return _distributed


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device, or this process, has not the memory that was asked for."""
    return isinstance(error, MemoryError) or (
        type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError")
        and "RESOURCE_EXHAUSTED" in str(error)
    )


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """While active, SIGTERM sets the yielded request instead of ending the process.

    Within another one it is the same request, which may be set already. In a job of several
    processes JAX catches the signal and tells all of them (`training.trainer.stop_requested`).
    """
    global _request
    if _request is not None:
        yield _request
        return
    request = StopRequest()
    if _distributed:
        yield request
        return
    try:
        before = signal.signal(signal.SIGTERM, request._ask)
    except ValueError:  # not in the main thread: whoever embeds us keeps their own handler
        yield request
        return
    _request = request
    try:
        yield request
    finally:
        _request = None
        signal.signal(signal.SIGTERM, before)
