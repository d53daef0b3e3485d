"""Byte pair encoding of one word: the pair of lowest rank is merged wherever it stands, and again.

All occurrences of a pair are merged from left to right before the next pair is chosen, as in the
released code of GPT and GPT-2. Words of everyday length go through lists; long ones (a line of
base64, a page without spaces) through arrays, in time that grows little faster than their length.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

LONG = 3_000  # symbols; from here on arrays are faster

_NONE = 1 << 62
_BLOCK = 1 << 20  # pairs looked up at once


class Merges:
    """The merges of a vocabulary, ready for use.

    Args:
      vocabulary: Entry -> id, each id below 2**31.
      merges: Pairs of entries whose concatenation is an entry, the strongest first.
    """

    def __init__(self, vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
        self._pairs = [vocabulary[a] << 32 | vocabulary[b] for a, b in merges]
        self._merged = [vocabulary[a + b] for a, b in merges]
        self._ranks = {pair: rank for rank, pair in enumerate(self._pairs)}
        # The same once more, for look-ups of many pairs at once.
        self._order = np.argsort(np.array(self._pairs, np.int64))
        self._sorted = np.array(self._pairs, np.int64)[self._order]

    def apply(self, symbols: list[int]) -> list[int]:
        """From the ids of a word's symbols to those of its pieces; the list may be changed."""
        if len(symbols) >= LONG:
            return self.apply_to_array(np.array(symbols, np.int32)).tolist()
        find = self._ranks.get
        ranks = [find(a << 32 | b, _NONE) for a, b in itertools.pairwise(symbols)]
        while ranks and (best := min(ranks)) != _NONE:
            symbol, at = self._merged[best], -1
            for _ in range(ranks.count(best)):
                try:
                    at = ranks.index(best, at + 1)
                except ValueError:  # the second pair of "aaa" went with the first
                    break
                symbols[at] = symbol
                del symbols[at + 1], ranks[at]
                if at:
                    ranks[at - 1] = find(symbols[at - 1] << 32 | symbol, _NONE)
                if at < len(ranks):
                    ranks[at] = find(symbol << 32 | symbols[at + 1], _NONE)
        return symbols

    def apply_to_array(self, symbols: np.ndarray) -> np.ndarray:
        """The same for an int32 array; one array operation for all occurrences of a pair.

        Takes about 30 bytes of memory a symbol.
        """
        if len(symbols) < 2 or not self._pairs:
            return symbols
        word = _Linked(symbols)
        waiting: dict[int, list[np.ndarray]] = {}  # rank -> places where such a pair may begin
        heap: list[int] = []
        found = word.places()
        while True:
            for rank, places in self._by_rank(word, found):
                if rank not in waiting:
                    waiting[rank] = []
                    heapq.heappush(heap, rank)
                waiting[rank].append(places)
            if not heap:
                return word.symbols[word.symbols >= 0]
            best = heapq.heappop(heap)
            places = np.unique(np.concatenate(waiting.pop(best)))
            first, second = divmod(self._pairs[best], 1 << 32)
            found = word.merge(places, first, second, self._merged[best])

    def _by_rank(self, word: _Linked, places: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Places at which a pair with a rank begins, grouped by rank."""
        grouped: list[tuple[int, np.ndarray]] = []
        for start in range(0, len(places), _BLOCK):
            block = places[start : start + _BLOCK]
            pairs = word.pairs(block)
            at = np.minimum(np.searchsorted(self._sorted, pairs), len(self._sorted) - 1)
            known = self._sorted[at] == pairs
            block, ranks = block[known], self._order[at[known]]
            order = np.argsort(ranks, kind="stable")
            block, ranks = block[order], ranks[order]
            cuts = np.flatnonzero(np.diff(ranks)) + 1
            firsts = ranks[np.concatenate(([0], cuts))].tolist() if len(ranks) else []
            grouped += zip(firsts, np.split(block, cuts), strict=False)
        return grouped


class _Linked:
    """Symbols in a doubly linked list made of arrays; a place keeps its number when others go.

    Attributes:
      symbols: int32 [places], -1 where a place has gone.
    """

    def __init__(self, symbols: np.ndarray) -> None:
        self.symbols = symbols
        self._next = np.arange(1, len(symbols) + 1, dtype=np.int32)
        self._previous = np.arange(-1, len(symbols) - 1, dtype=np.int32)

    def places(self) -> np.ndarray:
        """All places but the last."""
        return np.arange(len(self.symbols) - 1, dtype=np.int32)

    def pairs(self, places: np.ndarray) -> np.ndarray:
        """int64: the symbol at each place and the one after it, which must be there."""
        first = self.symbols[places].astype(np.int64)
        return first << 32 | self.symbols[self._next[places]]

    def merge(self, places: np.ndarray, first: int, second: int, merged: int) -> np.ndarray:
        """Merges the pairs that (still) begin at `places`; returns where new pairs begin."""
        places = places[self.symbols[places] == first]
        places = places[self._next[places] < len(self.symbols)]
        places = places[self.symbols[self._next[places]] == second]
        if first == second:
            places = self._every_other(places)
        gone = self._next[places]
        after = self._next[gone]
        self.symbols[places], self.symbols[gone] = merged, -1
        self._next[places] = after
        inside = after < len(self.symbols)
        self._previous[after[inside]] = places[inside]
        before = self._previous[places]
        return np.unique(np.concatenate((before[before >= 0], places[inside])))

    def _every_other(self, places: np.ndarray) -> np.ndarray:
        """Of the places of a run, of which each pair overlaps the next, the first, third, ..."""
        starts_run = np.ones(len(places), bool)
        starts_run[1:] = self._next[places[:-1]] != places[1:]
        number = np.arange(len(places))
        return places[(number - np.maximum.accumulate(np.where(starts_run, number, 0))) % 2 == 0]
