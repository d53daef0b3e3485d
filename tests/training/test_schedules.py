"""Schedules, value by value as the papers' code has them."""

import math

import pytest

from gptbert.errors import UserError
from gptbert.training.schedules import SCHEDULES, make_schedule, with_bias_correction


def test_bert_as_released():
    rate = make_schedule("bert", 1.0, 34, 343)  # MRPC, 3 epochs, 10% warm-up
    assert rate(0) == 0.0
    assert rate(33) == pytest.approx(33 / 34)
    assert rate(34) == pytest.approx(1 - 34 / 343)  # the jump at the end of warm-up
    assert rate(342) == pytest.approx(1 / 343)
    assert make_schedule("bert", 1.0, 0, 5)(0) == 1.0


def test_gpt_linear_falls_during_warmup_too():
    rate = make_schedule("gpt_linear", 2.0, 10, 100)
    assert rate(0) == 0.0
    assert rate(5) == pytest.approx(2.0 * 0.5 * 0.95)
    assert rate(50) == pytest.approx(2.0 * 0.5)


def test_gpt_warms_up_over_a_share_of_a_step_too():
    """RTE's 233 updates with GPT's 0.2% of warm-up, CoLA's 801: `x/warmup` of `opt.py`."""
    rte, cola = (make_schedule("gpt_linear", 1.0, 0.002 * n, n) for n in (233, 801))
    assert [rte(0), rte(1)] == pytest.approx([0.0, 1 - 1 / 233])
    assert [cola(0), cola(1), cola(2)] == pytest.approx(
        [0.0, 1 / 801 / 0.002 * (1 - 1 / 801), 1 - 2 / 801]
    )


def test_gpt_cosine_counts_from_the_start_of_the_run():
    rate = make_schedule("gpt_cosine", 1.0, 10, 100)
    assert rate(5) == pytest.approx(0.5)
    assert rate(10) == 1.0  # `opt.py` warms up while x <= warmup
    assert rate(11) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.11)))
    assert rate(50) == pytest.approx(0.5)


def test_cosine_reaches_its_final_share():
    rate = make_schedule("cosine", 6e-4, 2000, 600_000, final=0.1)
    assert rate(0) == pytest.approx(6e-4 / 2000)
    assert rate(1999) == rate(2000) == pytest.approx(6e-4)
    assert rate(301_000) == pytest.approx(6e-4 * 0.55)
    assert rate(600_000) == pytest.approx(6e-5)


def test_constant():
    rate = make_schedule("constant", 3.0, 3, 10)
    assert [rate(s) for s in (0, 1, 2, 9)] == pytest.approx([1.0, 2.0, 3.0, 3.0])


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_warmup_and_one_step_are_fine(name):
    assert make_schedule(name, 1.0, 0, 1)(0) == 1.0


def test_correction_is_adams():
    rate = with_bias_correction(lambda step: 1.0)
    assert rate(0) == pytest.approx(math.sqrt(0.001) / 0.1)
    assert rate(100_000) == pytest.approx(1.0)


def test_unknown_name_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'cosine'"):
        make_schedule("cosin", 1.0, 0, 1)
