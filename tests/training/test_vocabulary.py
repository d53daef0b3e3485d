"""Training only the used embedding rows gives what training all of them gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gptbert.models.dropout import step_key
from gptbert.training.schedules import make_schedule
from gptbert.training.step import jit_update
from gptbert.training.vocabulary import WORD_TABLE, UsedVocabulary, renumbered, used_ids
from tests import tiny


@pytest.mark.parametrize("optimizer", ["bert_adam", "adamw"])
def test_lean_state_expands_to_the_whole_one(optimizer):
    data = tiny.features(6, longest=9)
    used = used_ids(data)
    assert 0 in used and len(used) < tiny.CONFIG.vocabulary / 2
    schedule = make_schedule("bert", 0.05, 2, 8)
    fixed, parameters = tiny.training(optimizer=optimizer)
    whole = fixed.initial_state(parameters)
    start = jnp.copy(parameters[WORD_TABLE])
    lean = UsedVocabulary(used, start, 0.01, schedule)
    small = jax.tree.map(jnp.copy, lean.compact(whole))
    assert small.parameters[WORD_TABLE].shape[0] == len(used)
    step, small_step = jit_update(fixed, whole), jit_update(fixed, small)
    batch, small_batch = tiny.packed(data), tiny.packed(renumbered(data, used))
    for number in range(5):
        rate, key = np.float32(schedule(number)), step_key(0, number)
        whole, one = step(whole, batch, rate, key)
        small, other = small_step(small, small_batch, rate, key)
        assert abs(one["loss"] - other["loss"]) <= 1e-5 * abs(one["loss"])
    again = lean.expand(small)
    tiny.assert_close(again.parameters, whole.parameters)
    unused = np.setdiff1d(np.arange(tiny.CONFIG.vocabulary), used)
    moved = np.asarray(whole.parameters[WORD_TABLE])[unused] != np.asarray(start)[unused]
    assert moved.mean() > 0.9  # they do decay
    first, second = (
        state.optimizer_state[1][0 if optimizer == "bert_adam" else 1] for state in (again, whole)
    )
    tiny.assert_close(first, second)
    np.testing.assert_array_equal(
        lean.compact(again).parameters[WORD_TABLE], small.parameters[WORD_TABLE]
    )
