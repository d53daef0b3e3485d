"""`gptbert sweep`: every run, what they amount to, the choice, and going on after a kill."""

from __future__ import annotations

import json
import math
import statistics
import types
from collections import Counter
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from gptbert.commands.sweep import parser
from gptbert.errors import Interrupted, RunFailed
from gptbert.runs import sweep as sweeping
from gptbert.runs.assemble import Assembly
from tests.fabricated import flags, make_glue, results
from tests.fixtures_runs import Called, call, refused

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("quickly")]

GRID = ("--batch_sizes=16,20", "--learning_rates=1e-2,1e-30", "--seeds=0,1")
FIELDS = {"num_epochs": 1, "frozen": "^bert/", "log_every": 1}
FIELDS |= {"batch_size": None, "learning_rate": None}  # the grid's


@pytest.fixture(scope="module")
def glue(tmp_path_factory) -> Path:
    """Texts of all lengths, so that the batch sizes and seeds need several shapes."""
    return make_glue(tmp_path_factory.mktemp("glue"), "mrpc")


def command(glue: Path, bert: Path, folder: Path, **fields: object) -> list[str]:
    return ["sweep", *flags(glue, bert, folder, **{**FIELDS, **fields})[1:]]


@pytest.fixture(scope="module")
def swept(tmp_path_factory, glue: Path, bert_dir: Path) -> tuple[Path, Called, list[str]]:
    """Folder, what the command said, and the names of the programs that were compiled."""
    folder, compiled = tmp_path_factory.mktemp("sweeps") / "mrpc", []

    def listen(event: str, seconds: float, **more: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(more.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        called = call(*command(glue, bert_dir, folder), *GRID)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert called.code == 0, called
    return folder, called, compiled


def summary(folder: Path) -> dict:
    return json.loads((folder / "sweep.json").read_text())


def test_the_papers_grid_is_the_default() -> None:
    found = parser().parse_args([])
    assert found.batch_sizes == "32" and found.learning_rates == "5e-5,4e-5,3e-5,2e-5"
    assert tuple(map(float, found.learning_rates.split(","))) == sweeping.PAPER_RATES


def test_every_run_is_a_run_folder(swept) -> None:
    folder, called, _ = swept
    found = summary(folder)["runs"]
    assert len(found) == 8
    for run in found:
        own = results(folder / run["run"])
        assert own["metrics"] == run["metrics"] and own["collapsed"] == run["collapsed"]
        assert own["seed"] == run["seed"]
        for field in ("batch_size", "learning_rate"):
            assert own["hyperparameters"][field] == run[field]
        assert f"{run['run']}: f1 {run['metrics']['f1']:.4f}" in called.err
    assert len({json.dumps(run["metrics"]) for run in found}) > 1


def test_mean_deviation_and_median(swept) -> None:
    found = summary(swept[0])
    assert [cell["runs"] for cell in found["cells"]] == [2, 2, 2, 2]
    for cell in found["cells"]:
        own = [run for run in found["runs"] if of_cell(run, cell)]
        values, spread = [run["metrics"]["f1"] for run in own], cell["metrics"]["f1"]
        assert math.isclose(spread["mean"], statistics.mean(values))
        assert math.isclose(spread["std"], statistics.stdev(values), abs_tol=1e-12)
        assert math.isclose(spread["median"], statistics.median(values))
        assert cell["collapsed"] == sum(run["collapsed"] for run in own)


def of_cell(run: dict, cell: dict) -> bool:
    return all(run[key] == cell[key] for key in ("batch_size", "learning_rate"))


def test_the_choice(swept) -> None:
    folder, called, _ = swept
    found = summary(folder)
    best = max(found["cells"], key=lambda cell: cell["metrics"]["f1"]["mean"])
    assert found["best"] == {key: best[key] for key in ("batch_size", "learning_rate")}
    chosen = next(run for run in found["runs"] if run["run"] == found["best_run"])
    rivals = [run["metrics"]["f1"] for run in found["runs"] if of_cell(run, best)]
    assert chosen["metrics"]["f1"] == max(rivals)
    assert "highest mean of the first dev metric" in found["rule"]
    assert f"rule: {found['rule']}" in called.out and found["best_run"] in called.out


def test_the_table(swept) -> None:
    folder, called, _ = swept
    header = called.out.splitlines()[0]
    wanted = ("batch size", "learning rate", "runs", "collapsed", "f1 mean", "std", "median")
    assert all(name in header for name in wanted)
    for cell in summary(folder)["cells"]:
        (row,) = [
            line
            for line in called.out.splitlines()
            if f" {cell['learning_rate']:g} " in line and line.split()[0] == str(cell["batch_size"])
        ]
        assert f"{cell['metrics']['f1']['mean']:.4f}" in row


def test_collapsed_runs_are_flagged() -> None:
    records = [
        {
            "run": f"seed{seed}", "batch_size": 32, "learning_rate": 5e-5, "seed": seed,
            "metrics": {"f1": value}, "collapsed": value == 0.0, "task": "t", "split": "dev",
        }
        for seed, value in enumerate([0.9, 0.0, 0.8])
    ]  # fmt: skip
    (cell,) = sweeping.summarise_runs(records)["cells"]
    assert cell["collapsed"] == 1 and cell["metrics"]["f1"]["median"] == 0.8
    assert sweeping.summarise_runs(records)["best_run"] == "seed0"


def test_a_run_that_fails_does_not_end_the_sweep(
    glue: Path, bert_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One rate fails with seed 1: its cell loses, the rest is done, and nothing is done twice."""
    run, ran = sweeping.run, []

    def failing(assembly, own, *a: object, **more: object) -> dict:
        ran.append(own.path.name)
        if own.path.name == "bs16_lr0.01_seed1":
            raise RunFailed("the loss became nan at step 3; the last good checkpoint is none")
        return run(assembly, own, *a, **more)

    monkeypatch.setattr(sweeping, "run", failing)
    grid = ("--batch_sizes=16", "--learning_rates=1e-2,1e-30", "--seeds=0,1")
    for count in (4, 4):
        called = call(*command(glue, bert_dir, tmp_path / "sweep"), *grid)
        assert called.code == 0 and len(ran) == count
        assert "bs16_lr0.01_seed1: failed: the loss became nan at step 3" in called.err
    found = summary(tmp_path / "sweep")
    whole, broken = found["cells"]
    assert (whole["runs"], whole["failed"], broken["runs"], broken["failed"]) == (2, 0, 1, 1)
    assert found["best"]["learning_rate"] == 1e-30
    assert [r["run"] for r in found["runs"] if "failed" in r] == ["bs16_lr0.01_seed1"]


def test_a_sweep_whose_runs_all_fail_says_so() -> None:
    record = {"run": "a", "batch_size": 16, "learning_rate": 1.0, "seed": 0, "failed": "NaN"}
    with pytest.raises(RunFailed, match="every run of the sweep failed; a: failed: NaN"):
        sweeping.summarise_runs([record])


def test_one_compilation_for_each_shape(swept) -> None:
    folder, _, compiled = swept
    shapes = {}
    for run in summary(folder)["runs"]:
        own = results(folder / run["run"])["shapes"]
        assert shapes.setdefault(run["batch_size"], own) == own, "runs share their shapes"
    counts = Counter(name for name in compiled if "update" in name or "score" in name)
    updates = sum(count for name, count in counts.items() if "update" in name)
    scores = sum(count for name, count in counts.items() if "score" in name)
    assert updates == sum(map(len, shapes.values())), counts
    assert scores <= 2 * len(shapes), "dev and test, once for each batch size at most"


def test_runs_of_a_sweep_are_told_of_their_own_batch_size() -> None:
    features = {"train": range(18)}
    for batch_size, told in ((16, 0), (20, 1)):
        config = ConfigDict({"batch_size": batch_size})
        shared = types.SimpleNamespace(notes=("cut",), features=features, config=config)
        notes = Assembly.told.fget(shared)
        assert notes[0] == "cut" and len(notes) == 1 + told
        assert all("batch_size=20 is more than the 18 training examples" in n for n in notes[1:])


def test_a_killed_sweep_goes_on(
    swept, glue: Path, bert_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run has lost its results, as if killed before they were written; only it runs."""
    folder, _, _ = swept
    before = summary(folder)
    lost = before["runs"][5]["run"]
    (folder / lost / "results.json").unlink()
    (folder / "sweep.json").unlink()
    written = {p: p.stat().st_mtime_ns for p in folder.glob("*/results.json")}
    ran, run = [], sweeping.run
    monkeypatch.setattr(
        sweeping, "run", lambda *a, **more: ran.append(a[1].path.name) or run(*a, **more)
    )
    called = call(*command(glue, bert_dir, folder), *GRID, "--quiet")
    assert called.code == 0 and called.err == "" and ran == [lost]
    assert {p: p.stat().st_mtime_ns for p in written} == written
    assert summary(folder) == before


def test_a_finished_sweep_runs_nothing(
    swept, glue: Path, bert_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, said, _ = swept
    monkeypatch.setattr(sweeping, "run", lambda *a, **more: pytest.fail("nothing is left to run"))
    assert call(*command(glue, bert_dir, folder), *GRID).out == said.out


def test_a_stopped_sweep_exits_75(
    glue: Path, bert_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*a: object, **more: object) -> None:
        raise Interrupted("stopped on request after step 3; the same command continues")

    monkeypatch.setattr(sweeping, "run", stopped)
    called = call(*command(glue, bert_dir, tmp_path / "sweep"), *GRID, "--quiet")
    assert called.code == 75 and not (tmp_path / "sweep" / "sweep.json").exists()


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ("--batch_sizes=16,x", "--batch_sizes='16,x': expected numbers separated by commas"),
        ("--batch_sizes=0", "--batch_sizes='0': expected positive numbers"),
        ("--learning_rates=nan", "--learning_rates='nan': expected positive numbers"),
        ("--learning_rates=", "--learning_rates='': expected positive numbers"),
        ("--seeds=1,1", "--seeds='1,1': the same number twice"),
        ("--batch_sizes=16,17", "--config.accumulate=2 does not divide --config.batch_size=17"),
        ("--config.data_dir=nowhere", "data folder nowhere does not exist"),
        ("--config.lerning_rate=1", "(did you mean 'learning_rate'?)"),
    ],
)
def test_bad_grids(glue: Path, bert_dir: Path, tmp_path: Path, grid: str, expected: str) -> None:
    said = refused(*command(glue, bert_dir, tmp_path / "sweep", accumulate=2), grid)
    assert expected in said and not (tmp_path / "sweep").exists()


def test_another_config_in_the_same_folder(swept, glue: Path, bert_dir: Path) -> None:
    folder, _, _ = swept
    said = refused(*command(glue, bert_dir, folder, weight_decay=0.5), *GRID, "--quiet")
    assert "config.weight_decay was 0.01 and is now 0.5" in said


def test_rates_that_differ_have_folders_that_differ() -> None:
    rates = (5e-5, 5.0000001e-5, 3e-5, 1.0)
    assert [sweeping._short(rate) for rate in rates] == ["5e-05", "5.0000001e-05", "3e-05", "1"]


@pytest.mark.parametrize("field", ["batch_size", "learning_rate", "seed"])
def test_what_the_grid_sets_is_no_field(field: str, tmp_path: Path) -> None:
    told = refused(
        "sweep", "--config=configs/glue.py:mrpc", f"--config.{field}=3", f"--workdir={tmp_path}/s"
    )
    assert f"--config.{field}=3: a sweep takes it from its grid" in told
    assert "s=3" in told.split("expected ")[1]


def test_a_sweep_is_no_run_but_names_its_best(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps({"best_run": "bs32_lr2e-05_seed1"}))
    told = refused("predict", f"--workdir={tmp_path}", "a dog sleeps")
    assert f"whose best run is {tmp_path / 'bs32_lr2e-05_seed1'}" in told
