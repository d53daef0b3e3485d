"""Order, packing and shapes: every example where it belongs, few shapes, nothing random."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.models.presets import preset
from gptbert.pipeline.packing import Shape, pack
from gptbert.pipeline.plan import (
    TrainingPlan,
    choose_shapes,
    cost_model,
    epoch_order,
    plan_scoring,
    run_shapes,
    total_steps,
)
from tests import tiny

COSTS = cost_model(preset("minilm-l6-h384"), on_cpu=True)


@pytest.mark.property
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(40, 90))
def test_packing_places_every_example_once_and_fits(lengths, positions):
    rows = pack(lengths, positions)
    assert sorted(e for row in rows for e in row) == list(range(len(lengths)))
    assert all(sum(lengths[e] for e in row) <= positions for row in rows)
    # Best fit: any two rows together hold more than one row can, but for the last pair.
    loads = sorted(sum(lengths[e] for e in row) for row in rows)
    assert len(loads) < 2 or loads[0] + loads[1] > positions


@pytest.mark.property
@settings(max_examples=50)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=40),
    st.floats(0.1, 10),
    st.floats(0.1, 100),
)
def test_chosen_row_counts_are_optimal(counts, row_cost, compilation):
    import itertools

    def cost(kept):
        rows = sum(min(k for k in kept if k >= c) for c in counts)
        return rows * row_cost + len(kept) * compilation

    kept = choose_shapes(counts, row_cost, compilation, most=3)
    assert max(counts) in kept and kept == sorted(kept)
    below = sorted(set(counts) - {max(counts)})
    options = [
        cost([*some, max(counts)]) for n in range(3) for some in itertools.combinations(below, n)
    ]
    assert cost(kept) == pytest.approx(min(options))


def test_a_rare_large_batch_gets_its_own_shape_only_when_that_pays():
    counts = [6] * 1000 + [9] * 2
    assert choose_shapes(counts, row_cost=1.0, compilation=50.0) == [6, 9]
    assert choose_shapes(counts, row_cost=1.0, compilation=1e9) == [9]


def test_order_is_a_permutation_and_a_pure_function():
    order = epoch_order(100, seed=3, epoch=2)
    assert sorted(order) == list(range(100))
    assert (order == epoch_order(100, 3, 2)).all()
    assert (order != epoch_order(100, 3, 1)).any() and (order != epoch_order(100, 4, 2)).any()


def test_steps_are_those_of_the_released_code():
    assert total_steps(3668, 32, 3) == 343  # MRPC, as the README prints
    assert total_steps(8551, 32, 3) == 801
    assert total_steps(5, 32, 3) == 1


def make_plan(examples=50, batch_size=8, epochs=3.0, seed=0, pieces=1):
    data = tiny.features(examples)
    steps = total_steps(examples, batch_size, epochs)
    shapes = run_shapes(
        data, batch_size=batch_size, steps=steps, seeds=[seed], costs=COSTS, row_multiple=pieces
    )
    return TrainingPlan(data, batch_size, steps, seed, shapes, pieces)


def test_batches_run_through_every_epoch():
    plan = make_plan()
    seen = np.concatenate([plan.examples(step) for step in range(plan.steps)])
    for epoch in range(len(seen) // 50):
        assert sorted(seen[epoch * 50 : epoch * 50 + 50]) == list(range(50))
    assert plan.epoch_ends()[-1] == plan.steps
    assert plan.epoch_ends()[0] == 7  # ceil(50 / 8)


def test_batches_hold_their_examples_unchanged():
    plan = make_plan()
    for step in (0, 5, plan.steps - 1):
        batch = plan.batch(step)
        assert batch.targets.weights.sum() == 8
        for number, example in enumerate(plan.examples(step)):
            row, columns = np.nonzero(batch.packed.segments == number + 1)
            assert len(set(row)) == 1
            start, end = plan.features.starts[example : example + 2]
            tokens = batch.packed.tokens[row[0], columns]
            assert (tokens == plan.features.tokens[start:end]).all()
            assert (batch.packed.positions[row[0], columns] == np.arange(end - start)).all()
            types = batch.packed.token_types[row[0], columns]
            assert (types == 0).sum() == plan.features.first_lengths[example]


def test_every_batch_has_a_planned_shape_and_rows_divide():
    for pieces in (1, 4):
        plan = make_plan(pieces=pieces)
        for step in range(plan.steps):
            batch = plan.batch(step)
            shape = Shape(*batch.packed.tokens.shape, batch.targets.starts.shape[1])
            assert shape in plan.shapes and shape.rows % pieces == 0


def test_runs_of_a_sweep_share_their_shapes():
    data = tiny.features(50)
    shapes = run_shapes(data, batch_size=8, steps=18, seeds=[0, 1, 2], costs=COSTS)
    for seed in (0, 1, 2):
        plan = TrainingPlan(data, 8, 18, seed, shapes)
        assert all(plan.batch(step) is not None for step in range(18))


@pytest.mark.property
@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(4, 40), st.integers(1, 8), st.integers(64, 400))
def test_scoring_meets_every_example_once_on_any_device_count(examples, longest, multiple, tokens):
    data = tiny.features(examples, longest, seed=examples)
    plan = plan_scoring(data, batch_tokens=tokens, row_multiple=multiple, slots=4)
    assert plan.shape.rows % multiple == 0
    seen = []
    for chosen, batch in plan.iterate():
        assert batch.packed.tokens.shape == (plan.shape.rows, plan.shape.positions)
        rows, slots = np.nonzero(batch.targets.weights)
        starts = batch.targets.starts[rows, slots]
        members = chosen[batch.packed.segments[rows, starts] - 1]
        assert (batch.packed.tokens[rows, starts] == data.tokens[data.starts[members]]).all()
        seen += members.tolist()
    assert sorted(seen) == list(range(examples))


def test_packing_is_best_fit_of_the_first_row():
    """As the plain search over all rows has it, which takes time quadratic in the examples."""

    def plainly(lengths: list[int], positions: int, most: int | None) -> list[list[int]]:
        rows, free = [], []
        for example in sorted(range(len(lengths)), key=lambda e: (-lengths[e], e)):
            fitting = [row for row, space in enumerate(free) if lengths[example] <= space]
            if fitting:
                row = min(fitting, key=lambda row: (free[row], row))
            elif most is None or len(rows) < most:
                row = len(rows)
                rows.append([])
                free.append(positions)
            else:
                continue
            rows[row].append(example)
            free[row] -= lengths[example]
        return rows

    rng = np.random.default_rng(0)
    for count, positions, most in ((1, 8, None), (40, 32, None), (200, 64, None), (90, 48, 12)):
        lengths = rng.integers(1, positions + 1, count).tolist()
        assert pack(lengths, positions, most) == plainly(lengths, positions, most)
    assert len(pack([5] * 100_000, 128)) == 4_000  # in a moment
