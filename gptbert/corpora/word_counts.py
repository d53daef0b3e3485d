"""Counts the words of raw text with all cores, in memory that does not grow with the text."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tqdm import tqdm

from gptbert.corpora.units import Tally, group
from gptbert.datasets.documents import Reject, Source, read_documents
from gptbert.errors import RunFailed
from gptbert.tokenizers.basic import Rules
from gptbert.tokenizers.train_words import WordCounts, count_words

# Input that is counted in one go; part of the result only where rare words must be forgotten.
PORTION_BYTES = 8 << 20

_PATIENCE = 0.2  # seconds between two looks at the progress
_LINE_EVERY = 30.0  # seconds between two lines where there is no terminal


@dataclasses.dataclass
class Counted:
    """What raw text holds.

    Attributes:
      counts: Its words.
      rejects: What could not be read, by reason.
      notes: What was repaired or noticed.
    """

    counts: WordCounts = dataclasses.field(default_factory=WordCounts)
    rejects: Tally = dataclasses.field(default_factory=Tally)
    notes: Tally = dataclasses.field(default_factory=Tally)

    def add(self, other: Counted) -> None:
        """Adds the portion that comes after."""
        self.counts.add(other.counts)
        self.rejects.merge(dataclasses.asdict(other.rejects))
        self.notes.merge(dataclasses.asdict(other.notes))


def count_sources(
    sources: Sequence[Source], kind: str, rules: Rules, *, workers: int, quiet: bool = False
) -> Counted:
    """Counts the words of all sources, which are in a fixed order.

    The result does not depend on `workers`: portions are added in the order of the sources.

    Raises:
      RunFailed: A worker was killed.
    """
    portions = group(sources, PORTION_BYTES)
    total = Counted()
    size = sum(source.bytes for source in sources)
    with bar("read", size, "B", quiet) as show:
        alone = min(workers, len(portions)) < 2
        found = (
            _one_by_one(portions, kind, rules, show)
            if alone
            else _with_workers(portions, kind, rules, workers, show)
        )
        for counted in found:
            total.add(counted)
    return total


@contextlib.contextmanager
def bar(what: str, total: int, unit: str, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar with the time left; without a terminal a line now and then.

    Yields a function to call with how much is done.
    """
    terminal = sys.stderr.isatty()
    began = told = time.monotonic()
    with tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=True,
        disable=quiet or not terminal,
        dynamic_ncols=True,
    ) as shown:

        def show(done: int) -> None:
            nonlocal told
            shown.update(done - shown.n)
            now = time.monotonic()
            if not quiet and not terminal and now - told > _LINE_EVERY:
                told = now
                left = (now - began) * (total - done) / max(done, 1)
                print(f"{what}: {done / total:.0%}, {left:.0f} s left", file=sys.stderr, flush=True)

        yield show


def _count(
    portion: Iterable[Source], kind: str, rules: Rules, advance: Callable[[int], None]
) -> Counted:
    """Counts one portion; `advance` is told of bytes as they are read."""
    counted = Counted()

    def texts() -> Iterator[str]:
        for source in portion:
            read = 0
            for found in read_documents(source):
                advance(found.end - read)
                read = found.end
                if isinstance(found, Reject):
                    counted.rejects.add(found.kind, f"{found.source}: {found.reason}")
                    continue
                for note in found.notes:
                    counted.notes.add(note, found.source)
                yield found.text
            advance(source.bytes - read)

    counted.counts = count_words(texts(), kind, rules)
    return counted


def _one_by_one(
    portions: Iterable[Sequence[Source]], kind: str, rules: Rules, show: Callable[[int], None]
) -> Iterator[Counted]:
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        show(done)

    for portion in portions:
        yield _count(portion, kind, rules, advance)


def _with_workers(
    portions: Sequence[Sequence[Source]],
    kind: str,
    rules: Rules,
    workers: int,
    show: Callable[[int], None],
) -> Iterator[Counted]:
    """What each portion holds, in their order; only a few are ahead of what has been taken."""
    context = multiprocessing.get_context("spawn")  # forking a process with threads may hang
    read = context.Value("q", 0)
    futures: collections.deque[Future[Counted]] = collections.deque()
    waiting = iter(portions)
    with ProcessPoolExecutor(workers, context, _begin, (read,)) as pool:
        try:
            while True:
                while len(futures) < 2 * workers and (portion := next(waiting, None)) is not None:
                    futures.append(pool.submit(_count_in_worker, portion, kind, rules))
                if not futures:
                    return
                while not wait([futures[0]], _PATIENCE).done:
                    show(read.value)
                yield futures.popleft().result()
        except BrokenProcessPool:
            raise RunFailed(
                "a worker was killed, most often for lack of memory; start the same command "
                "again, with fewer --workers"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_read: Any = None  # in a worker: bytes read by all workers


def _begin(read: Any) -> None:
    """Sets a worker up: it ends with its parent, however that goes, and silently at Ctrl-C."""
    global _read
    _read = read
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _count_in_worker(portion: Sequence[Source], kind: str, rules: Rules) -> Counted:
    def advance(more: int) -> None:
        with _read.get_lock():
            _read.value += more

    return _count(portion, kind, rules, advance)
