"""Fields of pre-training that nothing would read are refused."""

from __future__ import annotations

import pytest

from gptbert.commands.config_flag import load_config
from gptbert.errors import UserError
from gptbert.runs.pretraining_recipe import check_read


@pytest.mark.parametrize("name", ["configs/gpt.py:gpt", "configs/bert.py:base"])
def test_a_final_rate_belongs_to_the_cosine(name: str) -> None:
    config = load_config(name, [], example="")
    check_read(config)
    config.final_rate = 0.1
    with pytest.raises(
        UserError, match=r"--config.final_rate=0.1 does nothing with --config.sched"
    ):
        check_read(config)
    config.schedule = "cosine"
    check_read(config)
