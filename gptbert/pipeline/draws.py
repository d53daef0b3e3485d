"""Random numbers by address: a hash of a key and counters, whole arrays at a time.

A number depends on what it is for (the key) and on where it belongs (the counters: a document, an
instance and a position), never on which batch, process or order it is asked for in. The mixing
function is the finalizer of SplitMix64.
"""

from __future__ import annotations

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


def key(*parts: int | str) -> int:
    """A 64-bit key from non-negative integers and names."""
    entropy = [int.from_bytes(p.encode(), "big") if isinstance(p, str) else p for p in parts]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


def bits(key: int | np.ndarray, *counters: np.ndarray | int) -> np.ndarray:
    """uint64 of the counters' common shape; `key` may be an array of hashes itself."""
    hashed = np.asarray(key, np.uint64)
    for counter in counters:
        # At least one axis: of scalars NumPy reports the overflow that is meant here.
        hashed = _mix(np.atleast_1d(hashed) + np.atleast_1d(counter).astype(np.uint64) * _GOLDEN)
    return hashed


def uniform(hashed: np.ndarray) -> np.ndarray:
    """float64 in [0, 1) from `bits`."""
    return (hashed >> np.uint64(11)) * 2.0**-53


def below(hashed: np.ndarray, limit: np.ndarray | int) -> np.ndarray:
    """int64 in [0, limit) from `bits`, 0 where the limit is 0; limits are at most 2^63.

    The upper half of the product of 128 bits; limits below 2^32 use 32 bits of the hash only.
    """
    limit = np.asarray(limit).astype(np.uint64)
    above, rest = limit >> _HALF, limit & _LOW
    high, low = hashed >> _HALF, (hashed & _LOW) * (above > 0)
    middle = high * rest + (low * rest >> _HALF)
    carried = (low * above + (middle & _LOW)) >> _HALF
    return (high * above + (middle >> _HALF) + carried).astype(np.int64)


def _mix(h: np.ndarray) -> np.ndarray:
    h = h + _GOLDEN
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))
