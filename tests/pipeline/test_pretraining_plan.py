"""Plans of pre-training: pure functions of the step, whole in parts, in phases, from mixtures."""

import dataclasses
import itertools
from collections import Counter

import jax
import numpy as np
import pytest

from gptbert.errors import UserError
from gptbert.pipeline import instance_plan
from gptbert.pipeline.instance_plan import InstanceStream
from gptbert.pipeline.instance_rows import share_rows
from gptbert.pipeline.instances import Creation
from gptbert.pipeline.masking import Masking
from gptbert.pipeline.mixture import Mixture
from gptbert.pipeline.pretraining_plan import (
    PhasedPlan,
    phase_steps,
    plan_instances,
    plan_windows,
)
from tests.pipeline.corpora import (
    BERT,
    CLS,
    COSTS,
    END,
    GPT,
    GPT2,
    MASK,
    SEP,
    corpus,
    documents,
    instances_of,
    leaves,
    same,
)
from tests.tiny_store import make_store


def make(mixture, *, phases=((1.0, 32),), batch_size=8, steps=12, seed=0, **options):
    return plan_instances(
        mixture, BERT, phases=phases, batch_size=batch_size, steps=steps, seed=seed, costs=COSTS,
        **options,
    )  # fmt: skip


def texts_of(store):
    """The token sequences of a store's documents."""
    bounds = store.sentence_starts[store.document_starts]
    return [store.read(int(a), int(b)).tolist() for a, b in itertools.pairwise(bounds)]


def appears(text, whole):
    return any(text == whole[k : k + len(text)] for k in range(len(whole) - len(text) + 1))


def test_instances_are_text_of_the_corpus(tmp_path):
    mixture = corpus(tmp_path)
    documents = texts_of(mixture.stores[0])
    plan = make(mixture)
    for step in range(3):
        found = instances_of(plan.batch(step))
        assert sorted(found) == list(range(1, 9))
        for text, label in found.values():
            tokens, types = zip(*text, strict=True)
            end = types.index(1) - 1
            assert tokens[0] == CLS and tokens[end] == tokens[-1] == SEP
            assert types == (0,) * (end + 1) + (1,) * (len(types) - end - 1)
            first, second = list(tokens[1:end]), list(tokens[end + 1 : -1])
            assert first and second and len(tokens) <= 32
            homes = [{n for n, d in enumerate(documents) if appears(t, d)} for t in (first, second)]
            assert all(homes)
            assert label == 1 or homes[0] & homes[1]


def test_packed_and_masked_as_the_targets_say(tmp_path):
    batch = make(corpus(tmp_path)).batch(0)
    packed, targets = batch.packed, batch.targets
    rows, slots = np.nonzero(targets.weights)
    positions = targets.positions[rows, slots]
    assert (np.diff(positions)[np.diff(rows) == 0] > 0).all()  # ascending within a row
    assert (packed.segments[rows, positions] > 0).all()
    originals = targets.labels[rows, slots]
    assert (originals > SEP).all()
    assert 0.5 < (packed.tokens[rows, positions] == MASK).mean() < 1
    assert not packed.tokens[packed.segments == 0].any()
    # Every example has its quota.
    examples = packed.segments[rows, positions]
    lengths = np.bincount(packed.segments.ravel())[1:]
    assert (np.bincount(examples)[1:] == Masking().quota(lengths)).all()


def test_batches_have_the_announced_shapes(tmp_path):
    mixture = corpus(tmp_path)
    for options in (
        {},
        {"row_multiple": 4, "pieces": 2},
        {"creation": Creation("mlm")},
        {"creation": Creation("left_to_right")},
        {"phases": ((0.75, 32), (0.25, 64)), "masking": Masking(whole_words=True)},
    ):
        plan = make(mixture, **options)
        announced = [
            {name: (x.shape, x.dtype) for name, x in leaves(batch).items()}
            for batch in plan.abstract_batches()
        ]
        assert all(
            isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(plan.abstract_batches())
        )
        for step in range(plan.steps):
            batch = leaves(plan.batch(step))
            assert {name: (x.shape, x.dtype) for name, x in batch.items()} in announced
            assert len(batch["packed.tokens"]) % options.get("row_multiple", 1) == 0
        assert (plan.steps, plan.batch_size, plan.pieces) == (12, 8, options.get("pieces", 1))


def test_a_resumed_run_gets_the_same_batches(tmp_path):
    mixture = corpus(tmp_path)
    straight = make(mixture, phases=((0.5, 32), (0.5, 48)), steps=60)
    batches = [straight.batch(step) for step in range(60)]
    assert straight.epoch(60) > 2
    resumed = make(mixture, phases=((0.5, 32), (0.5, 48)), steps=60)
    for step in (59, 31, 30, 7, 44, 0):
        assert same(resumed.batch(step), batches[step])
    other = make(mixture, phases=((0.5, 32), (0.5, 48)), steps=60, seed=1)
    assert not same(other.batch(7), batches[7])


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("objective", ["mlm_nsp", "left_to_right"])
def test_parts_make_the_whole(tmp_path, parts, objective):
    plan = make(corpus(tmp_path), row_multiple=4, creation=Creation(objective))
    for step in (0, 11):
        whole = leaves(plan.batch(step))
        shares = [leaves(plan.batch(step, part, parts)) for part in range(parts)]
        for name, array in whole.items():
            assert (np.concatenate([share[name] for share in shares]) == array).all()
    with pytest.raises(ValueError, match="part 0 of 3"):
        make(corpus(tmp_path / "b"), row_multiple=4).batch(0, 0, 3)


def test_a_part_reads_its_own_rows_only(tmp_path, monkeypatch):
    mixture = corpus(tmp_path)
    plan = make(mixture, row_multiple=4)
    store, reads = mixture.stores[0], []
    read = store.read
    monkeypatch.setattr(store, "read", lambda a, b: reads.append(b - a) or read(a, b))
    for part in range(4):
        plan.batch(0, part, 4)
    in_parts = len(reads)
    reads.clear()
    plan.batch(0)
    assert in_parts == len(reads) == 16  # two texts an example


def test_packing_changes_where_examples_lie_and_nothing_else(tmp_path):
    mixture = corpus(tmp_path, sentences=3, longest=6)
    packed, alone = (make(mixture, slots=slots, batch_size=32) for slots in (3, 1))
    fewer = 0
    for step in range(12):
        one, other = packed.batch(step), alone.batch(step)
        assert instances_of(one) == instances_of(other)
        fewer += len(other.packed.tokens) - len(one.packed.tokens)
        for number in range(1, 33):  # masks too
            mine, its = one.packed.segments == number, other.packed.segments == number
            assert (one.packed.tokens[mine] == other.packed.tokens[its]).all()
    assert fewer > 0


def test_rows_are_shared_by_so_many_at_most():
    lengths = np.array([5] * 20 + [30, 28, 26])
    rows = share_rows(lengths, 32, 3)
    assert sorted(e for row in rows for e in row) == list(range(23))
    assert max(map(len, rows)) == 3 and [20] in rows
    assert all(lengths[row].sum() <= 32 for row in rows)
    assert share_rows(lengths, 32, 1) == [[k] for k in range(23)]


def test_an_epoch_meets_every_instance_and_the_next_has_other_masks(tmp_path):
    stream = InstanceStream(corpus(tmp_path, count=60), Creation(length=32), seed=0)
    size = stream.epoch_size
    first, second = (stream.pick(np.arange(e * size, (e + 1) * size)) for e in range(2))
    assert len(set(map(tuple, np.hstack([first.first, first.second]).tolist()))) >= 0.95 * size
    assert len(np.unique(first.keys)) == size
    assert not set(first.keys.tolist()) & set(second.keys.tolist())
    met = np.zeros(stream.mixture.stores[0].tokens, bool)
    for start, stop in np.concatenate([first.first, first.second]).tolist():
        met[start:stop] = True
    assert met.mean() > 0.9  # the rest was cut off
    assert (stream.pick(np.array([size + 3, 5])).keys == [second.keys[3], first.keys[5]]).all()


def test_static_masks_return_after_the_duplicates(tmp_path):
    mixture = corpus(tmp_path)
    static = InstanceStream(mixture, Creation(length=32, duplicates=2), seed=0)
    size = static.epoch_size

    def contents(epoch):
        picked = static.pick(np.arange(epoch * size, (epoch + 1) * size))
        rows = zip(picked.first.tolist(), picked.second.tolist(), picked.keys.tolist(), strict=True)
        return [repr(row) for row in rows]

    assert set(contents(0)) == set(contents(2)) == set(contents(4))
    assert contents(0) != contents(2)  # in another order
    assert not set(contents(0)) & set(contents(1))
    # The second pass may have more instances than the first: then a random few are left out.
    overlap = len(set(contents(1)) & set(contents(3))) / size
    assert overlap > 0.7
    dynamic = InstanceStream(mixture, Creation(length=32), seed=0)
    assert set(dynamic.pick(np.arange(size)).keys.tolist()) == {
        int(row.rsplit(", ", 1)[1][:-1]) for row in contents(0)
    }


def test_passes_of_other_sizes_fill_the_epochs(tmp_path):
    """An epoch is as long as the first pass, whatever later passes have."""
    stream = InstanceStream(corpus(tmp_path, count=7), Creation(length=32, short_share=0.9), 0)
    size, sizes = stream.epoch_size, [len(stream._epoch(0, e)[0]) for e in range(12)]
    assert min(sizes) < size < max(sizes)
    for epoch, count in enumerate(sizes):
        picked = stream.pick(np.arange(epoch * size, (epoch + 1) * size))
        times = Counter(picked.keys.tolist())
        assert len(times) == min(size, count)
        assert max(times.values()) == -(-size // count)


def test_phases_follow_each_other(tmp_path):
    plan = make(corpus(tmp_path), phases=((0.9, 32), (0.1, 64)), steps=20)
    assert [phase.steps for phase in plan.phases] == [18, 2]
    widths = [plan.batch(step).packed.tokens.shape[1] for step in range(20)]
    assert widths == [32] * 18 + [64] * 2
    assert plan.batch(19).packed.positions.max() > 32
    epochs = [plan.epoch(step) for step in range(21)]
    assert epochs[0] == 0 and (np.diff(epochs) > 0).all()
    assert np.diff(epochs)[-1] > np.diff(epochs)[0]  # longer examples, fewer of them
    with pytest.raises(IndexError, match="step 20"):
        plan.batch(20)
    assert phase_steps(((0.9, 128), (0.1, 512)), 1_000_000) == [(128, 900_000), (512, 100_000)]
    with pytest.raises(UserError, match="no step for sequence length 512"):
        phase_steps(((0.9, 128), (0.1, 512)), 3)
    with pytest.raises(UserError, match="sum to 1"):
        phase_steps(((0.9, 128), (0.2, 512)), 100)
    with pytest.raises(UserError, match="sum to 1"):
        phase_steps(((float("nan"), 128),), 100)
    for length in (0, -3):
        with pytest.raises(UserError, match=f"length {length} leaves no room.*at least 1"):
            phase_steps(((1.0, length),), 100)


def test_a_length_that_returns_goes_on_where_it_ended(tmp_path):
    mixture = corpus(tmp_path)
    plan = make(mixture, phases=((0.25, 32), (0.25, 48), (0.5, 32)), steps=24)
    assert [phase.steps for phase in plan.phases] == [6, 6, 12]
    short, long = make(mixture, steps=18), make(mixture, phases=((1.0, 48),), steps=6)
    for number, step in enumerate([*range(6), *range(12, 24)]):
        assert same(plan.batch(step), short.batch(number))
    for number in range(6):
        assert same(plan.batch(6 + number), long.batch(number))
    assert not same(plan.batch(12), plan.batch(0))
    assert plan.epoch(24) == pytest.approx(short.epoch(18) + long.epoch(6))
    announced = [batch.packed.tokens.shape for batch in plan.abstract_batches()]
    assert len(set(announced)) == len(announced)  # each shape is compiled once
    assert set(announced) == {plan.batch(step).packed.tokens.shape for step in range(24)}


def test_corpora_are_mixed_by_weight(tmp_path):
    low = make_store(tmp_path / "low", documents(20, first=5, last=50))
    high = make_store(tmp_path / "high", documents(5, seed=1, first=50))
    plan = make(Mixture.of([low, high], [0.75, 0.25]), batch_size=16, steps=40)
    stream = plan.phases[0].examples
    seen = []
    for step in range(40):
        found = instances_of(plan.batch(step))
        from_high = [number for number, (text, _) in found.items() if text[1][0] >= 50]
        assert all(
            all(t >= 50 for t, _ in text if t > SEP) == (number in from_high)
            for number, (text, _) in found.items()
        )
        assert len(from_high) == 4
        seen.append(len(from_high))
    # The small corpus has gone through several epochs of its own meanwhile.
    assert sum(seen) / stream._sizes[1] > 2 and 480 / stream._sizes[0] < 16


def test_long_runs_are_planned_from_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(instance_plan, "_KNOWN", 100)
    monkeypatch.setattr(instance_plan, "_SAMPLE", 5)
    mixture = corpus(tmp_path)
    plan = make(mixture, steps=40, row_multiple=2)
    assert plan.phases[0].shapes[-1].rows == 8  # a row an example always suffices
    for step in range(40):
        plan.batch(step)


def test_without_next_sentences(tmp_path):
    batch = make(corpus(tmp_path), creation=Creation("mlm")).batch(0)
    assert not batch.packed.token_types.any() and not batch.targets.next_weights.any()
    assert batch.targets.weights.any()
    assert (np.bincount(batch.packed.segments[batch.packed.tokens == SEP])[1:] >= 1).all()


def test_left_to_right_predicts_every_token_of_the_text(tmp_path):
    packed, targets = vars(
        make(corpus(tmp_path), creation=Creation("left_to_right")).batch(0)
    ).values()
    for number in range(1, 9):
        row, column = np.nonzero(packed.segments == number)
        tokens = packed.tokens[row, column]
        assert tokens[0] == CLS and tokens[-1] == SEP and MASK not in tokens
        weights, labels = targets.weights[row, column], targets.labels[row, column]
        assert weights.tolist() == [1.0] * (len(tokens) - 2) + [0.0] * 2
        assert (labels[:-2] == tokens[1:-1]).all()
    assert not targets.weights[packed.segments == 0].any()


def test_bert_needs_its_special_tokens(tmp_path):
    with pytest.raises(UserError, match="special token"):
        plan_instances(
            corpus(tmp_path), GPT2, phases=((1.0, 32),), batch_size=8, steps=1, seed=0, costs=COSTS
        )
    plan = plan_instances(
        corpus(tmp_path / "b"),
        dataclasses.make_dataclass("T", ["special", "vocabulary_size", "continues"])(
            dataclasses.replace(BERT.special, mask=None), 101, BERT.continues
        ),
        phases=((1.0, 32),),
        batch_size=8,
        steps=1,
        seed=0,
        costs=COSTS,
        creation=Creation("left_to_right"),
    )
    assert plan.batch(0).targets.weights.sum() > 0


def windows(mixture, tokenizer=GPT2, **options):
    options = {"length": 16, "batch_size": 4, "steps": 30, "seed": 0} | options
    return plan_windows(mixture, tokenizer, **options)


def test_windows_predict_the_next_token(tmp_path):
    mixture = corpus(tmp_path)
    plan = windows(mixture)
    stream = [t for text in texts_of(mixture.stores[0]) for t in [*text, END]]
    twice = stream + stream[:17]
    for step in range(5):
        packed, targets = vars(plan.batch(step)).values()
        assert (packed.tokens[:, 1:] == targets.labels[:, :-1]).all()
        for row in range(4):
            assert appears([*packed.tokens[row].tolist(), int(targets.labels[row, -1])], twice)
        assert (targets.weights == 1).all() and (packed.segments.T == [1, 2, 3, 4]).all()
        assert (packed.positions == np.arange(16)).all() and not packed.token_types.any()
    assert END not in windows(corpus(tmp_path / "b"), GPT).batch(0).packed.tokens


def test_window_batches_are_whole_in_parts_and_on_resume(tmp_path):
    mixture = corpus(tmp_path)
    plan, again = windows(mixture, row_multiple=8), windows(mixture, row_multiple=8)
    assert plan.epoch(30) > 1
    for step in (29, 3, 0):
        whole = plan.batch(step)
        assert whole.packed.tokens.shape == (8, 16)
        assert not whole.packed.segments[4:].any() and not whole.targets.weights[4:].any()
        assert same(again.batch(step), whole)
        for parts in (2, 8):
            shares = [leaves(again.batch(step, part, parts)) for part in range(parts)]
            for name, array in leaves(whole).items():
                assert (np.concatenate([share[name] for share in shares]) == array).all()
    announced = leaves(plan.abstract_batches()[0])
    assert {k: (x.shape, x.dtype) for k, x in announced.items()} == {
        k: (x.shape, x.dtype) for k, x in leaves(plan.batch(0)).items()
    }


def test_window_epochs_and_mixtures(tmp_path):
    low = make_store(tmp_path / "low", documents(20, last=50))
    high = make_store(tmp_path / "high", documents(8, seed=1, first=50))
    plan = windows(Mixture.of([low, high], [1, 1]), GPT, batch_size=8)
    for step in range(30):
        assert ((plan.batch(step).packed.tokens >= 50).all(axis=1)).sum() == 4
    with pytest.raises(UserError, match="fewer than one window of 100000"):
        windows(Mixture.of([low]), length=100_000)


def test_windows_of_a_length_that_returns_go_on_where_they_ended(tmp_path):
    mixture = corpus(tmp_path)
    phases = (windows(mixture, steps=5), windows(mixture, length=8, steps=3), windows(mixture))
    plan, whole = PhasedPlan(phases), windows(mixture, steps=35)
    for number, step in enumerate([*range(5), *range(8, 38)]):
        assert same(plan.batch(step), whole.batch(number))
    for number in range(3):
        assert same(plan.batch(5 + number), phases[1].batch(number))
    assert len(plan.abstract_batches()) == 2


def test_tokens_a_byte_of_the_text_that_is_read(tmp_path):
    few, many = (
        make_store(tmp_path / str(count), documents(count, seed=count)) for count in (6, 40)
    )
    per_byte = [(s.tokens + s.documents) / s.bytes for s in (few, many)]  # with end-of-text
    assert PhasedPlan((windows(Mixture.of([few])),)).tokens_per_byte == pytest.approx(per_byte[0])
    assert windows(Mixture.of([few]), GPT).tokens_per_byte == pytest.approx(few.tokens / few.bytes)
    mixed = windows(Mixture.of([few, many], [3, 1])).tokens_per_byte
    assert mixed == pytest.approx(1 / (0.75 / per_byte[0] + 0.25 / per_byte[1]))
    few.bytes = 0
    assert windows(Mixture.of([few])).tokens_per_byte is None
    assert make(Mixture.of([many])).tokens_per_byte is None  # a loss of examples, not of a text
