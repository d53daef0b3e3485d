"""Masks: shares, whole words, independence of the batch; against the script written plainly."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbert.errors import UserError
from gptbert.pipeline import draws
from gptbert.pipeline.masking import Masking, mask

MASK, VOCABULARY = 4, 50
CONTINUES = np.arange(VOCABULARY) >= 35


def examples(count=400, width=40, seed=0):
    """Rows [CLS] … [SEP] with 1 and 2 for the special tokens, 0 behind."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, width + 1, count)
    lengths[0] = width
    tokens = rng.integers(5, VOCABULARY, (count, width)).astype(np.int32)
    column = np.arange(width)
    candidates = (column > 0) & (column < lengths[:, None] - 1)
    tokens = np.where(candidates, tokens, 0).astype(np.int32)
    tokens[:, 0], tokens[np.arange(count), lengths - 1] = 1, 2
    return tokens, candidates, lengths


def masked(tokens, candidates, lengths, masking=None, key=0, whole=False):
    masking = masking or Masking(whole_words=whole)
    keys = draws.bits(key, np.arange(len(tokens)))
    return mask(
        tokens, candidates, lengths, keys, masking, mask_id=MASK, vocabulary_size=VOCABULARY,
        continues=CONTINUES if masking.whole_words else None,
    )  # fmt: skip


def script_choice(tokens, candidates, masking, rng):
    """Step 5 of the script for one example: the positions that are predicted."""
    sets = []
    for position in np.flatnonzero(candidates).tolist():
        if masking.whole_words and sets and CONTINUES[tokens[position]]:
            sets[-1].append(position)
        else:
            sets.append([position])
    rng.shuffle(sets)
    n = int(candidates.sum()) + 2
    wanted = max(1, int(round(n * masking.rate)))  # noqa: RUF046 (as the script has it)
    wanted = min(masking.most, wanted) if masking.most else wanted
    chosen = []
    for each in sets:
        if len(chosen) >= wanted:
            break
        if len(chosen) + len(each) <= wanted:
            chosen += each
    return sorted(chosen), sets


def test_so_many_tokens_are_predicted_as_the_script_says():
    tokens, candidates, lengths = examples()
    for masking in (Masking(), Masking(most=3), Masking(rate=0.5)):
        _, chosen = masked(tokens, candidates, lengths, masking)
        assert not (chosen & ~candidates).any()
        expected = [max(1, int(round(n * masking.rate))) for n in lengths.tolist()]  # noqa: RUF046
        if masking.most:
            expected = [min(masking.most, n) for n in expected]
        expected = np.minimum(expected, candidates.sum(axis=1)).tolist()
        assert chosen.sum(axis=1).tolist() == expected
    # Halves go to the even number: 0.15 x 10 = 1.5 -> 2, 0.15 x 30 = 4.5 -> 4.
    assert Masking().quota(np.array([3, 10, 30, 128, 512])).tolist() == [1, 2, 4, 19, 77]


def test_eighty_ten_ten():
    tokens, candidates, lengths = examples(6000)
    shown, chosen = masked(tokens, candidates, lengths)
    assert (shown == tokens)[~chosen].all()
    was, now = tokens[chosen], shown[chosen]
    count = len(was)
    # A random entry is [MASK], or the token that was there, once in V.
    other = 0.1 / VOCABULARY
    assert (now == MASK).mean() == pytest.approx(0.8 + other, abs=4 * 0.4 / count**0.5)
    assert (now == was).mean() == pytest.approx(0.1 + other, abs=4 * 0.3 / count**0.5)
    replaced = now[(now != MASK) & (now != was)]
    histogram = np.bincount(replaced, minlength=VOCABULARY)
    histogram = np.delete(histogram, MASK)
    expected = histogram.mean()
    # Specials and unused entries (0 to 3) and continuations among them.
    assert (abs(histogram - expected) < 5 * expected**0.5).all() and expected > 30


def test_any_mixture_can_be_set():
    tokens, candidates, lengths = examples(50)
    shown, chosen = masked(tokens, candidates, lengths, Masking(mixture=(1.0, 0.0, 0.0)))
    assert (shown[chosen] == MASK).all()
    shown, chosen = masked(tokens, candidates, lengths, Masking(mixture=(0.0, 1.0, 0.0)))
    assert (shown == tokens).all() and chosen.any()
    shown, chosen = masked(tokens, candidates, lengths, Masking(mixture=(0.0, 0.0, 1.0)))
    assert (shown[chosen] != tokens[chosen]).mean() > 0.9


@pytest.mark.parametrize("mixture", [(math.nan, 0.1, 0.1), (0.8, 0.1), (1.1, -0.1, 0.0)])
def test_what_is_no_mixture_is_refused(mixture):
    with pytest.raises(UserError, match="expected the shares of"):
        Masking(mixture=mixture)


def test_every_position_is_hidden_equally_often():
    tokens, candidates, lengths = examples(1)
    tokens, candidates = np.repeat(tokens, 8000, 0), np.repeat(candidates, 8000, 0)
    _, chosen = masked(tokens, candidates, np.repeat(lengths, 8000))
    share = chosen.mean(axis=0)[1:-1]
    assert share == pytest.approx(6 / 38, abs=5 * (0.16 * 0.84 / 8000) ** 0.5)


def test_words_are_hidden_whole_or_not_at_all():
    tokens, candidates, lengths = examples(3000)
    masking = Masking(whole_words=True)
    _, chosen = masked(tokens, candidates, lengths, masking)
    rng, theirs = random.Random(0), []
    quota = masking.quota(lengths)
    for row in range(len(tokens)):
        reference, sets = script_choice(tokens[row], candidates[row], masking, rng)
        for each in sets:
            assert chosen[row, each].all() or not chosen[row, each].any()
        assert chosen[row].sum() <= quota[row]
        theirs.append(len(reference))
        # Passed over only what would not fit: no set outside could be added.
        free = quota[row] - chosen[row].sum()
        outside = [len(each) for each in sets if not chosen[row, each[0]]]
        assert free == 0 or not outside or min(outside) > free
    ours = chosen.sum(axis=1)
    assert ours.mean() == pytest.approx(np.mean(theirs), abs=4 * np.std(theirs) / 3000**0.5)
    # The sizes of hidden words are distributed as in the script.
    their_share = np.mean([n == q for n, q in zip(theirs, quota, strict=True)])
    assert (ours == quota).mean() == pytest.approx(their_share, abs=0.04)


def test_a_leading_continuation_is_a_word_of_its_own():
    tokens = np.array([[1, 40, 41, 6, 7, 2]], np.int32)
    candidates = np.array([[0, 1, 1, 1, 1, 0]], bool)
    seen = set()
    for key in range(60):
        masking = Masking(rate=0.34, whole_words=True)
        _, chosen = masked(tokens, candidates, np.array([6]), masking, key)
        seen.add(tuple(np.flatnonzero(chosen[0]).tolist()))
    assert seen == {(1, 2), (3, 4)}


@pytest.mark.property
@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(4, 30), st.booleans(), st.integers(0, 10**6))
def test_a_mask_depends_on_the_example_only(count, width, whole, seed):
    tokens, candidates, lengths = examples(count, width, seed)
    masking, keys = Masking(whole_words=whole), draws.bits(seed, np.arange(count))
    continues = CONTINUES if whole else None
    options = {"mask_id": MASK, "vocabulary_size": VOCABULARY, "continues": continues}
    shown, chosen = mask(tokens, candidates, lengths, keys, masking, **options)
    which = np.random.default_rng(seed).permutation(count)[: max(1, count // 2)]
    wider = ((0, 0), (0, 5))
    again, same = mask(
        np.pad(tokens[which], wider), np.pad(candidates[which], wider), lengths[which],
        keys[which], masking, **options,
    )  # fmt: skip
    assert (again[:, :width] == shown[which]).all() and not again[:, width:].any()
    assert (same[:, :width] == chosen[which]).all() and not same[:, width:].any()


def test_other_keys_give_other_masks():
    tokens, candidates, lengths = examples(50)
    one, other = (masked(tokens, candidates, lengths, key=key)[1] for key in (0, 1))
    assert 0.05 < (one & other).sum() / one.sum() < 0.35


@pytest.mark.property
@settings(max_examples=60)
@given(
    st.lists(st.integers(3, 60), min_size=1, max_size=4),
    st.sampled_from([0.05, 0.15, 0.3, 0.8]),
    st.sampled_from([0, 1, 5]),
    st.integers(0, 20),
)
def test_a_row_has_room_for_all_its_predictions(lengths, rate, most, space):
    masking, row = Masking(rate=rate, most=most), sum(lengths) + space
    room = masking.slots(3, row, len(lengths))
    assert masking.quota(np.array(lengths)).sum() <= room <= len(lengths) * row


def test_rows_of_bert_have_the_usual_room():
    assert Masking().slots(5, 128, 1) == 19 and Masking().slots(5, 512, 1) == 77
    assert Masking().slots(5, 128, 3) == 20 and Masking().slots(5, 512, 3) == 78
    assert Masking(most=5).slots(5, 128, 2) == 10


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 0.0},
        {"rate": 1.0},
        {"mixture": (0.8, 0.1, 0.2)},
        {"mixture": (1.1, -0.1, 0.0)},
        {"mixture": (0.5, 0.5)},
        {"most": -1},
    ],
)
def test_settings_are_checked(options):
    with pytest.raises(UserError, match="expected|between"):
        Masking(**options)
