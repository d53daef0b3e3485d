"""The demonstration, on a small fabricated library in place of the standard one."""

from __future__ import annotations

import json
import shutil
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from gptbert.commands import demo as command
from gptbert.commands.config_flag import load_config
from gptbert.errors import UserError
from gptbert.reports.demo_page import demo_table, write_demo_page
from gptbert.runs.demo import Sizes, demo
from gptbert.runs.sampling import sample_texts
from tests.fixtures_runs import WORDS, call, refused

SIZES = Sizes(vocabulary=160, held_out=0.2, prompts=("the", "a dog"), sample=5)


def configs() -> dict[str, ConfigDict]:
    """Those of the command with a few steps."""
    found = {
        stage: load_config(f"configs/demo.py:{stage}", [], example="") for stage in command.STAGES
    }
    for stage, config in found.items():
        config.log_every = 2
        config.batch_size = 16
        config.eval_every = 4
        if stage.startswith("pretrain"):
            config.steps, config.warmup_steps, config.phases = 4, 1, ((1.0, 16),)
            config.checkpoint_every = 2
        else:
            config.num_epochs = 0.6
    return found


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    rng = np.random.default_rng(0)
    for module in range(6):
        lines = [f'"""Module {module}, about {rng.choice(WORDS)}."""']
        for number in range(30):
            words = " ".join(rng.choice(WORDS, 6))
            lines += [f"def work{number}(a, b):", f'    """The {words} {module} {number}."""']
        (folder / f"module{module}.py").write_text("\n".join(lines))
    return folder


@pytest.fixture
def in_library(library, monkeypatch):
    """Lets every reader of the standard library find the fabricated one."""
    paths = sysconfig.get_paths()
    monkeypatch.setattr(sysconfig, "get_paths", lambda *_: paths | {"stdlib": str(library)})


@pytest.fixture(scope="module")
def finished(library, tmp_path_factory) -> tuple[Path, Mapping]:
    """A demonstration that was interrupted once, in the second pre-training, and went on."""
    folder = tmp_path_factory.mktemp("demonstration") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        paths = sysconfig.get_paths()
        patch.setattr(sysconfig, "get_paths", lambda *_: paths | {"stdlib": str(library)})
        with pytest.raises(UserError, match="warmup"):
            broken = configs()
            broken["pretrain-gpt"].warmup_steps = 4
            demo(broken, folder, SIZES)
        assert not (folder / "demo.json").exists()
        assert (folder / "finetune-bert-random" / "results.json").exists()
        before = (folder / "pretrain-bert" / "results.json").read_bytes()
        summary = demo(configs(), folder, SIZES)
        assert (folder / "pretrain-bert" / "results.json").read_bytes() == before
    return folder, summary


@pytest.mark.e2e
def test_both_stages_of_both_models(finished) -> None:
    folder, summary = finished
    assert [model["name"] for model in summary["models"]] == ["bert", "gpt"]
    for model in summary["models"]:
        assert model["kind"] == {"bert": "wordpiece", "gpt": "bpe"}[model["name"]]
        assert model["vocabulary"] == 160 and model["majority"].keys() == model["random"].keys()
        pretraining, tuned, random = (
            json.loads((folder / name / "results.json").read_text()) for name in model["folders"]
        )
        assert pretraining["metrics"] == model["pretraining"]["metrics"]
        assert tuned["metrics"] == model["pretrained"]
        assert random["metrics"] == model["random"]
        assert tuned["hyperparameters"]["init_from"].endswith(f"pretrain-{model['name']}")
        assert random["hyperparameters"]["init_from"] == ""
        shapes = [
            json.loads((folder / name / "model.json").read_text())["model"]
            for name in model["folders"][1:]
        ]
        assert shapes[0] == shapes[1], "one recipe, dropout included"
        same = tuned["hyperparameters"].keys() - {"init_from", "model", "tokenizer"}
        assert all(tuned["hyperparameters"][k] == random["hyperparameters"][k] for k in same)


@pytest.mark.e2e
def test_dev_functions_are_not_in_the_text(finished) -> None:
    folder, _ = finished
    corpus = (folder / "corpus.jsonl").read_text()
    dev = (folder / "finetune-bert" / "predictions" / "dev.jsonl").read_text().splitlines()
    assert len(dev) == finished[1]["texts"]["dev"] > 30
    for record in map(json.loads, dev):
        assert record["texts"][0] not in corpus
    train = map(json.loads, (folder / "train.jsonl").read_text().splitlines())
    assert all(record["description"] in corpus for record in train)


@pytest.mark.e2e
def test_table_and_page(finished) -> None:
    folder, summary = finished
    table = demo_table(summary)
    assert "BERT" in table and "GPT" in table and "from pre-trained" in table
    assert f"over {summary['texts']['dev']} descriptions" in table and "standard error" in table
    page, picture = write_demo_page(folder)
    html = page.read_text()
    assert picture.read_text().startswith("<svg") and picture.read_text() in html
    for words in (*summary["samples"], "loss of pre-training", "BERT, random", "next sentence"):
        assert words in html, words


@pytest.mark.e2e
def test_again_it_is_finished(finished, capsys) -> None:
    folder, summary = finished
    assert demo(configs(), folder, SIZES) == json.loads(json.dumps(summary))
    assert "is already finished" in capsys.readouterr().err
    called = call("demo", f"--workdir={folder}")
    assert called.code == 0 and "is already finished" in called.err
    assert demo_table(summary) in called.out and str(folder / "report.html") in called.out
    assert (folder / "pretrain-gpt" / "loss.svg").exists()


@pytest.mark.e2e
def test_a_part_that_is_gone_is_made_again(finished, in_library) -> None:
    folder, summary = finished
    shutil.rmtree(folder / "finetune-gpt")
    found = demo(configs(), folder, SIZES)
    assert (folder / "finetune-gpt" / "results.json").exists()
    assert found["models"][1]["pretrained"] == summary["models"][1]["pretrained"]


@pytest.mark.e2e
def test_samples_go_on_after_their_prompts_and_repeat(finished) -> None:
    folder, summary = finished
    options = {"tokens": 5, "most_likely": 10, "seed": 0}
    assert sample_texts(folder / "pretrain-gpt", SIZES.prompts, **options) == summary["samples"]
    for prompt, sample in zip(SIZES.prompts, summary["samples"], strict=True):
        assert sample.startswith(prompt) and len(sample) > len(prompt)
    likeliest = options | {"most_likely": 1}
    one, other = (
        sample_texts(folder / "pretrain-gpt", ["the"], **likeliest | {"seed": seed})
        for seed in (1, 2)
    )
    assert one == other


@pytest.mark.e2e
def test_damaged_summary_is_refused(finished, tmp_path) -> None:
    _, summary = finished
    text = json.dumps({**summary, "models": [{"name": "bert"}]})
    (tmp_path / "demo.json").write_text(text)
    with pytest.raises(UserError, match="demo.json is damaged"):
        write_demo_page(tmp_path)
    (tmp_path / "demo.json").write_text(text[:50])
    assert "demo.json" in refused("demo", f"--workdir={tmp_path}")


def test_other_text_in_the_folder_is_refused(in_library, tmp_path) -> None:
    (tmp_path / "corpus.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="holds something else"):
        demo(configs(), tmp_path, SIZES)
    assert (tmp_path / "corpus.jsonl").read_text() == "{}\n"


def test_unknown_stage_is_named() -> None:
    with pytest.raises(UserError, match="did you mean 'pretrain-bert'"):
        load_config("configs/demo.py:pretrain-brt", [], example="")
