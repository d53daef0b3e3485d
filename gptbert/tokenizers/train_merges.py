"""Learns merges, the part that all vocabularies of pieces share.

Sennrich et al. (2016), algorithm 1: count neighbouring symbols over all words, join the pair that
occurs most often wherever it stands, and again. Of pairs that occur equally often the one whose
names come first in the order of their code points is joined, so that the result is a function of
the counts alone: neither the order of the words nor hashing matters.

Only what a merge changes is counted anew: the pairs around its places. A symbol is a character of
a string here, a word a string of such characters, a pair a string of two: finding a pair in a word
is then `str.find`.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence

from gptbert.errors import UserError

# A pair that occurs once in all text would only spell out one word of it.
FEWEST = 2


class WrongSize(UserError):
    """A vocabulary of this size cannot be learnt from the text.

    Attributes:
      size: One that can, if as many characters are entries.
    """

    def __init__(self, asked: int, problem: str, bound: str, size: int, otherwise: str) -> None:
        """`problem` is said of the entries asked for, `bound` (at least, at most) of `size`."""
        super().__init__(
            f"{asked:,} entries are {problem}; expected {bound} --size={size}, or {otherwise}"
        )
        self._told, self.size = (problem, bound, size, otherwise), size

    def of(self, asked: int) -> WrongSize:
        """The same of another size that was asked for."""
        return WrongSize(asked, *self._told)


@dataclasses.dataclass(frozen=True)
class Merge:
    """One step: `first` and `second` are joined into `name`, which may be an entry already."""

    first: str
    second: str
    name: str
    count: int


@dataclasses.dataclass(frozen=True)
class Trained:
    """A vocabulary.

    Attributes:
      entries: In the order of their ids.
      merges: Pairs of entries, the first the strongest; WordPiece does not use them.
      characters: How many characters the entries can spell.
      unspelt: Occurrences of words with a character that is not one of them.
    """

    entries: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    characters: int
    unspelt: int


class MergeLearner:
    """The state between two merges.

    Args:
      words: Words as names of symbols, and how often each occurs; taken one by one.
      join: The name of two symbols joined, from their names.
    """

    def __init__(
        self,
        words: Iterable[tuple[Iterable[str], int]],
        join: Callable[[str, str], str] = str.__add__,
    ) -> None:
        self._join = join
        self._names: list[str] = []
        self._symbols: dict[str, str] = {}
        self._words: list[str] = []
        self._counts: list[int] = []
        # How often a pair occurs, and the numbers of the words it was seen in (it may have gone).
        self._pairs: collections.defaultdict[str, int] = collections.defaultdict(int)
        self._places: collections.defaultdict[str, list[int]] = collections.defaultdict(list)
        for symbols, count in words:
            self._add("".join(map(self._symbol, symbols)), count)
        self._heap = [self._rated(pair) for pair, count in self._pairs.items() if count >= FEWEST]
        heapq.heapify(self._heap)

    def _add(self, word: str, count: int) -> None:
        for pair in map(str.__add__, word, word[1:]):
            self._pairs[pair] += count
            self._places[pair].append(len(self._words))
        self._words.append(word)
        self._counts.append(count)

    def merges(self) -> Iterator[Merge]:
        """Yields merges, the most frequent pair first, until no pair occurs twice."""
        while self._heap:
            rated = heapq.heappop(self._heap)
            pair, count = rated[-1], -rated[0]
            now = self._pairs.get(pair, 0)
            if now == count:
                first, second = (self._names[ord(symbol)] for symbol in pair)
                name = self._join(first, second)
                yield Merge(first, second, name, count)
                self._apply(pair, self._symbol(name))
            elif FEWEST <= now < count:  # it became rarer since it was put there
                heapq.heappush(self._heap, self._rated(pair))

    def _apply(self, pair: str, joined: str) -> None:
        """Replaces a pair in all words, from left to right."""
        first, second = pair[0], pair[1]
        pairs, places = self._pairs, self._places
        changed: set[str] = set()
        for number in places.pop(pair):
            word, count = self._words[number], self._counts[number]
            at = word.find(pair)
            while at >= 0:
                before, after = word[:at], word[at + 2 :]
                if before:
                    pairs[before[-1] + first] -= count
                    changed.add(new := before[-1] + joined)
                    pairs[new] += count
                    places[new].append(number)
                if after:
                    pairs[second + after[0]] -= count
                    changed.add(new := joined + after[0])
                    pairs[new] += count
                    places[new].append(number)
                word = before + joined + after
                at = word.find(pair, at + 1)
            self._words[number] = word
        del pairs[pair]
        for new in changed:
            if pairs[new] >= FEWEST:
                heapq.heappush(self._heap, self._rated(new))

    def _rated(self, pair: str) -> tuple[int, str, str, str]:
        """Sorts pairs: frequent ones first, then by name."""
        first, second = pair[0], pair[1]
        return -self._pairs[pair], self._names[ord(first)], self._names[ord(second)], pair

    def _symbol(self, name: str) -> str:
        """The character that stands for a symbol."""
        symbol = self._symbols.get(name)
        if symbol is None:
            self._symbols[name] = symbol = chr(len(self._names))
            self._names.append(name)
        return symbol


Watch = Callable[[Iterable[Merge], int], Iterable[Merge]]


def unwatched(merges: Iterable[Merge], total: int) -> Iterable[Merge]:
    """The `Watch` that shows nothing; others may show how many of `total` merges are done."""
    del total
    return merges


def too_few(asked: int, needed: int) -> WrongSize:
    """The error for fewer entries than there are single characters and special tokens."""
    problem = f"too few: {needed:,} are needed for single characters and special tokens alone"
    return WrongSize(asked, problem, "at least", needed, "a smaller --alphabet")


def grow(
    start: Sequence[str], learner: MergeLearner, size: int, watch: Watch = unwatched
) -> tuple[list[str], list[tuple[str, str]]]:
    """Adds what merges give to the entries `start` until there are `size`.

    Returns:
      The entries in their order, and the merges made for them, the first the strongest; these are
      more than the new entries where two merges give the same.

    Raises:
      WrongSize: `start` has more entries than `size`, or the text does not give as many.
    """
    entries, merges = dict.fromkeys(start), []
    if len(entries) > size:
        raise too_few(size, len(entries))
    if len(entries) < size:
        for merge in watch(learner.merges(), size - len(entries)):
            merges.append((merge.first, merge.second))
            entries[merge.name] = None
            if len(entries) == size:
                break
    if len(entries) < size:
        raise WrongSize(
            size,
            f"too many: the text gives {len(entries):,} in which no piece was seen only once",
            "at most",
            len(entries),
            "more text",
        )
    return list(entries), merges
