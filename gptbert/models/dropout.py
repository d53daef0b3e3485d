"""Dropout whose masks depend on where a number belongs, not on where it happens to lie.

A mask bit is a hash of (key of the step, site in the network, example, position in the example,
feature), and for attention of (…, head, query position, key position). So the packed batch drops
the same numbers as the padded one, eight devices the same as one, and a batch in four pieces the
same as the batch in one. The hash is made of fusible integer operations: no mask is ever stored.

The mixing steps are the finalizer of MurmurHash3 (32 bits). It is a mixing function and no
cryptographic generator: parameters are drawn with `jax.random`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

_GOLDEN = np.uint32(0x9E3779B9)
# Sites within a layer; a layer's sites are `SITES_PER_LAYER * layer + site`.
SITES_PER_LAYER = 4
ATTENTION_PROBABILITIES, ATTENTION_OUTPUT, MLP_OUTPUT = 0, 1, 2
EMBEDDINGS, CLASSIFIER, WORD_TABLE, POSITION_TABLE = 0x10000, 0x10001, 0x10002, 0x10003


def _mix(h: jax.Array) -> jax.Array:
    h = (h ^ (h >> 16)) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * np.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def step_key(seed: int, step: int) -> np.ndarray:
    """Returns the dropout key of one optimizer step, uint32 [2], a pure function of both."""
    return np.random.SeedSequence((seed, 0xD20, step)).generate_state(2, np.uint32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Noise:
    """What dropout needs to know of one packed batch.

    Attributes:
      key: uint32 [2], from `step_key`.
      segments: int32 [R,T], the number of each token's example in the batch.
      positions: int32 [R,T], its position in the example.
    """

    key: jax.Array
    segments: jax.Array
    positions: jax.Array

    def _address(self, site: jax.Array | int, read: jax.Array | None = None) -> jax.Array:
        """Hash of (key, site, example, position): uint32 [R,T]; with `read` [R,N] of these."""
        site = jnp.asarray(site, jnp.uint32)
        start = _mix(self.key[0] + site * _GOLDEN)
        example = _mix(start ^ (self.segments.astype(jnp.uint32) * _GOLDEN + self.key[1]))
        address = _mix(example + self.positions.astype(jnp.uint32) * _GOLDEN)
        return address if read is None else jnp.take_along_axis(address, read, axis=1)

    def features(
        self, x: jax.Array, rate: float, site: jax.Array | int, read: jax.Array | None = None
    ) -> jax.Array:
        """Drops features of `x` [R,T,D] at the given site; [R,N,D] of the places `read` [R,N]."""
        if not rate:
            return x
        address = self._address(site, read)[..., None]
        feature = jax.lax.broadcasted_iota(jnp.uint32, (1, 1, x.shape[-1]), 2)
        return _drop(x, _mix(address + feature * _GOLDEN), rate)

    def probabilities(
        self, p: jax.Array, rate: float, site: jax.Array | int, read: jax.Array | None = None
    ) -> jax.Array:
        """Drops attention probabilities `p` [R,H,T,T] (query, key) at the given site.

        [R,H,N,T] where only the places `read` [R,N] ask.
        """
        if not rate:
            return p
        head = jax.lax.broadcasted_iota(jnp.uint32, (1, p.shape[1], 1), 1)
        query = _mix(self._address(site, read)[:, None, :] + (head + 1) * np.uint32(0x85EBCA6B))
        key = self.positions.astype(jnp.uint32)[:, None, None, :]
        return _drop(p, _mix(query[..., None] + key * _GOLDEN), rate)

    def vectors(self, x: jax.Array, segments: jax.Array, rate: float, site: int) -> jax.Array:
        """Drops features of one vector an example: `x` [R,N,D] of examples `segments` [R,N]."""
        return Noise(self.key, segments, jnp.zeros_like(segments)).features(x, rate, site)

    def table_rows(self, x: jax.Array, rows: jax.Array, rate: float, site: int) -> jax.Array:
        """Drops entries of a table for the whole step: `x` [...,D] are its rows `rows` [...].

        An entry is kept or dropped wherever it is looked up, so that dropping the rows that were
        looked up and looking up rows of a dropped table are the same.
        """
        if not rate:
            return x
        start = _mix(self.key[0] + jnp.asarray(site, jnp.uint32) * _GOLDEN)
        address = _mix(start ^ (rows.astype(jnp.uint32) * _GOLDEN + self.key[1]))[..., None]
        shape = (1,) * (x.ndim - 1) + x.shape[-1:]
        feature = jax.lax.broadcasted_iota(jnp.uint32, shape, x.ndim - 1)
        return _drop(x, _mix(address + feature * _GOLDEN), rate)


def _drop(x: jax.Array, bits: jax.Array, rate: float) -> jax.Array:
    keep = bits >= np.uint32(min(round(rate * 2**32), 2**32 - 1))
    # In float32: 1 / (1 - rate) rounded to bfloat16 would change the mean.
    kept = x.astype(jnp.float32) * np.float32(1.0 / (1.0 - rate))
    return jnp.where(keep, kept, 0).astype(x.dtype)
