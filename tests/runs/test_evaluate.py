"""`gptbert evaluate`: other splits, other tasks, a user's own files, any weights with a head."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from gptbert.datasets.docstrings import read_docstrings
from gptbert.errors import UserError
from gptbert.reports.finetuning_page import finetuning_page
from gptbert.reports.run_folder import read_run
from gptbert.runs import evaluate, using
from gptbert.tasks.classification import Task
from gptbert.weights.pretrained import load
from tests.fabricated import contents, make_glue
from tests.fixtures_runs import NLI, SENTIMENT, call, make_bert_folder, make_reviews, refused

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("quickly")]

PAIRS = ("The cat sings .", "a dog runs")


def evaluation(folder: Path) -> dict:
    return json.loads((folder / "evaluation.json").read_text())


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def write(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


@pytest.fixture
def nli_file(tmp_path) -> Path:
    """Columns of other names, classes in another order, one class absent, an empty last line."""
    rows = [f"{label}\t{k} good\t{PAIRS[1]}" for k, label in enumerate([NLI[2], NLI[0]] * 4)]
    return write(tmp_path / "own.tsv", "gold\tpremise\thypothesis", *rows)


class TestSplitsAndTasks:
    @pytest.mark.parametrize("split", ["dev_matched", "dev_mismatched"])
    def test_figures_are_those_of_the_run(self, mnli_run, tmp_path, split):
        results = json.loads((mnli_run / "results.json").read_text())
        called = call(
            "evaluate", f"--workdir={mnli_run}", f"--split={split}", f"--output={tmp_path}"
        )
        assert called.code == 0, called
        record = evaluation(tmp_path)
        assert record["metrics"] == results["splits"][split]
        assert record["task"] == "glue/mnli" and record["split"] == split
        assert record["model"]["step"] == results["checkpoint"]["step"]
        before = lines(mnli_run / "predictions" / f"{split}.jsonl")
        after = lines(tmp_path / "predictions.jsonl")
        assert [each["id"] for each in after] == [each["id"] for each in before]
        assert [each["texts"] for each in after] == [each["texts"] for each in before]
        for a, b in zip(after, before, strict=True):
            assert a["label"] == b["label"] and a["prediction"] == b["prediction"]
            assert a["probabilities"] == pytest.approx(b["probabilities"], abs=2e-6)

    def test_an_earlier_checkpoint(self, mnli_run):
        results = json.loads((mnli_run / "results.json").read_text())
        first = results["evaluations"][0]
        assert call("evaluate", f"--workdir={mnli_run}", f"--step={first['step']}").code == 0
        record = evaluation(mnli_run / "evaluations" / "glue-mnli-dev_matched-step3")
        assert record["model"]["step"] == first["step"] == 3
        assert record["metrics"] == first["metrics"]
        other = refused("evaluate", f"--workdir={mnli_run}", "--step=5")
        assert "no checkpoint of step 5" in other and "[3, 6]" in other

    def test_ax_with_the_model_of_mnli(self, mnli_run, mnli_data):
        called = call("evaluate", f"--workdir={mnli_run}", "--task=glue/ax", "--split=dev")
        assert called.code == 0, called
        folder = mnli_run / "evaluations" / "glue-ax-dev"
        record, rows = evaluation(folder), lines(folder / "predictions.jsonl")
        labels = [NLI.index(row["label"]) for row in rows]
        predicted = [NLI.index(row["prediction"]) for row in rows]
        assert len(rows) == record["examples"] == 9 and record["classes"] == list(NLI)
        assert record["metrics"] == pytest.approx(
            {
                "matthews_correlation": sklearn_metrics.matthews_corrcoef(labels, predicted),
                "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
            }
        )
        matrix = sklearn_metrics.confusion_matrix(labels, predicted, labels=range(3)).tolist()
        assert record["confusion_matrix"] == matrix
        assert record["majority_baseline"] == {"matthews_correlation": 0.0, "accuracy": 5 / 9}
        for key in ("fingerprints", "versions", "device_kind", "device_count", "git_commit"):
            assert record[key], key
        picture = (folder / "confusion.svg").read_text()
        assert picture.startswith("<svg") and all(name in picture for name in NLI)
        # What is printed: metrics beside the baseline, and the matrix with its names.
        assert "matthews_correlation" in called.out and "majority class" in called.out
        printed = [line.split() for line in called.out.splitlines()]
        for name, counts in zip(NLI, matrix, strict=True):
            assert [name, *map(str, counts)] in printed

    def test_ax_without_its_labels(self, mnli_run, mnli_data, tmp_path):
        """What most people have; no split is named, as in the help."""
        data = shutil.copytree(mnli_data, tmp_path / "glue")
        (data / "diagnostic" / "diagnostic-full.tsv").unlink()
        ax = ("evaluate", f"--workdir={mnli_run}", "--task=glue/ax")
        called = call(*ax, f"--data_dir={data}", f"--output={tmp_path / 'out'}")
        assert called.code == 0 and str(tmp_path / "out" / "AX.tsv") in called.out
        labelled = call(*ax, f"--output={tmp_path / 'labelled'}")
        assert evaluation(tmp_path / "labelled")["split"] == "dev", labelled

    def test_unlabelled_split_becomes_the_file_for_the_leaderboard(self, mnli_run, tmp_path):
        before = (mnli_run / "predictions" / "AX.tsv").read_bytes()
        called = call("evaluate", f"--workdir={mnli_run}", "--task=glue/ax", "--split=test",
                      f"--output={tmp_path / 'new'}")  # fmt: skip
        assert called.code == 0 and str(tmp_path / "new" / "AX.tsv") in called.out
        record = json.loads((tmp_path / "new" / "AX.json").read_text())
        assert (record["task"], record["split"], record["examples"]) == ("glue/ax", "test", 9)
        assert (tmp_path / "new" / "AX.tsv").read_bytes() == before
        assert set(contents(tmp_path / "new")) == {"AX.tsv", "AX.json"}
        # Without --output it goes where `gptbert submit` looks.
        (mnli_run / "predictions" / "AX.tsv").unlink()
        assert call("evaluate", f"--workdir={mnli_run}", "--task=ax", "--split=test").code == 2
        call("evaluate", f"--workdir={mnli_run}", "--task=glue/ax", "--split=test")
        assert (mnli_run / "predictions" / "AX.tsv").read_bytes() == before

    def test_a_file_for_the_leaderboard_is_not_replaced(self, mnli_run, tmp_path):
        run = tmp_path / "run"
        shutil.copytree(mnli_run, run)
        before = (run / "predictions" / "AX.tsv").read_bytes()
        ax = ("evaluate", f"--workdir={run}", "--task=glue/ax", "--split=test")
        called = call(*ax, "--max_length=5")
        assert called.code == 0 and (run / "predictions" / "AX.tsv").read_bytes() == before
        (cut,) = run.glob("evaluations/*/AX.tsv")
        assert cut.read_bytes() != before and str(cut) in called.out
        # Nor does a file of cut texts go where `gptbert submit` looks when there is none.
        (run / "predictions" / "AX.tsv").unlink()
        call(*ax, "--compute_dtype=bfloat16")
        assert not (run / "predictions" / "AX.tsv").exists()

    def test_a_file_for_the_leaderboard_from_other_data(self, mnli_run, mnli_data, tmp_path):
        output = tmp_path / "out"
        ax = ("evaluate", f"--workdir={mnli_run}", "--task=glue/ax", "--split=test",
              f"--output={output}")  # fmt: skip
        assert call(*ax).code == 0 and call(*ax).code == 0
        before = contents(output)
        other = shutil.copytree(mnli_data, tmp_path / "glue")
        path = other / "diagnostic" / "diagnostic.tsv"
        path.write_text("\n".join(path.read_text().split("\n")[:4]) + "\n")
        told = refused(*ax, f"--data_dir={other}")
        assert "holds the evaluation of" in told and str(mnli_data) in told and str(other) in told
        assert contents(output) == before
        (output / "AX.json").unlink()
        assert "nothing tells what it was made from" in refused(*ax)

    def test_the_same_file_under_another_name(self, reviews_run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        make_reviews(tmp_path / "own.csv")
        command = ("evaluate", f"--workdir={reviews_run}", "--output=out")
        assert call(*command, "--file=own.csv").code == 0
        assert call(*command, f"--file={tmp_path / 'own.csv'}").code == 0
        make_reviews(tmp_path / "other.csv", rows=20)
        assert "holds the evaluation of" in refused(*command, "--file=other.csv")

    def test_the_training_data_too(self, mnli_run, tmp_path):
        called = call("evaluate", f"--workdir={mnli_run}", "--split=train", f"--output={tmp_path}")
        assert called.code == 0 and evaluation(tmp_path)["examples"] == 48

    def test_own_files_of_the_run(self, reviews_run, tmp_path):
        results = json.loads((reviews_run / "results.json").read_text())
        for split in ("", "--split=held_out", "--split=dev"):
            output = tmp_path / f"out{split}"
            arguments = [split] if split else []
            called = call("evaluate", f"--workdir={reviews_run}", f"--output={output}", *arguments)
            assert called.code == 0, called
            record = evaluation(output)
            assert (record["task"], record["split"]) == ("text", "held_out")
            assert record["metrics"] == results["splits"]["held_out"]
            assert record["f1_of"] == results["f1_of"] == "positive"
            assert not [note for note in record["notes"] if "any more" in note]
            assert record["majority_baseline"] == results["majority_baselines"]["held_out"]
        called = call("evaluate", f"--workdir={reviews_run}", "--split=train")
        assert called.code == 0, called
        train = evaluation(reviews_run / "evaluations" / "text-train")
        assert train["examples"] + record["examples"] == 40
        told = refused("evaluate", f"--workdir={reviews_run}", "--split=heldout")
        assert "(did you mean 'held_out'?); it has: held_out, train" in told

    def test_own_files_that_have_changed_are_said_to_have(self, reviews_run, tmp_path):
        run = shutil.copytree(reviews_run, tmp_path / "run")
        config = json.loads((run / "config.json").read_text())
        rows = Path(config["config"]["train_file"]).read_text().splitlines(keepends=True)
        (tmp_path / "fewer.csv").write_text("".join(rows[:-6]))
        config["config"]["train_file"] = str(tmp_path / "fewer.csv")
        (run / "config.json").write_text(json.dumps(config))
        output = tmp_path / "out"
        called = call("evaluate", f"--workdir={run}", "--split=train", f"--output={output}")
        assert called.code == 0, called
        notes = evaluation(output)["notes"]
        assert notes[-1].startswith("the data of train are not those of the run any more")

    def test_each_split_of_a_run_has_its_baseline(self, mnli_run):
        results = json.loads((mnli_run / "results.json").read_text())
        baselines = results["majority_baselines"]
        assert baselines == {
            "dev_matched": {"accuracy": pytest.approx(6 / 17)},
            "dev_mismatched": {"accuracy": pytest.approx(4 / 12)},
        }
        assert results["majority_baseline"] == baselines["dev_matched"] and "f1_of" not in results
        page = finetuning_page(read_run(mnli_run), "")
        figure = results["splits"]["dev_mismatched"]["accuracy"]
        assert "Accuracy, dev_mismatched" in page and "0.3333" in page and f"{figure:.4f}" in page

    def test_the_page_says_which_class_f1_is_of(self, reviews_run):
        page = finetuning_page(read_run(reviews_run), "")
        assert "F1 is that of the class positive." in page and "Other splits" not in page

    def test_demo_data_needs_no_folder(self, tmp_path, monkeypatch):
        train, dev = read_docstrings(limit=40, folder=sysconfig.get_paths()["stdlib"] + "/email")
        task = Task("docstrings", ("accuracy", "f1"), train, {"dev": dev}, {})
        monkeypatch.setattr(evaluate, "read_docstring_task", lambda: task)
        source = using.Source(tmp_path, None, {}, ("no", "yes"), "cls", "docstrings", 1)
        for split, expected in (("", dev), ("dev", dev), ("train", train)):
            assert evaluate.read_task_split(source, "", "", split).dataset is expected
        with pytest.raises(UserError, match="has no split 'test'; it has: dev, train"):
            evaluate.read_task_split(source, "", "", "test")


class TestLabelsByName:
    def test_head_in_another_order(self, tmp_path):
        """Classes reversed in the weights: the same figures, F1 still of `equivalent`."""
        data = make_glue(tmp_path / "glue", "mrpc")
        names = ("not_equivalent", "equivalent")
        records = []
        for k, order in enumerate((names, names[::-1])):
            weights = make_bert_folder(tmp_path / f"bert{k}", order)
            if k:
                _reverse_head(weights)
            output = tmp_path / f"out{k}"
            called = call("evaluate", f"--init_from={weights}", "--task=glue/mrpc",
                          f"--data_dir={data}", f"--output={output}")  # fmt: skip
            assert called.code == 0, called
            records.append(evaluation(output))
        rows = lines(tmp_path / "out0" / "predictions.jsonl")
        f1 = sklearn_metrics.f1_score(
            [row["label"] == "equivalent" for row in rows],
            [row["prediction"] == "equivalent" for row in rows],
        )
        assert 0 < f1 < 1 and records[0]["metrics"]["f1"] == pytest.approx(f1)
        assert records[0]["f1_of"] == records[1]["f1_of"] == "equivalent"
        for key in ("metrics", "confusion_matrix", "classes", "majority_baseline"):
            assert records[0][key] == records[1][key], key

    def test_other_classes_are_refused_with_both_lists(self, mnli_run, tmp_path):
        data = make_glue(tmp_path / "glue", "rte")
        told = refused("evaluate", f"--workdir={mnli_run}", "--task=glue/rte",
                       f"--data_dir={data}", f"--output={tmp_path / 'out'}")  # fmt: skip
        assert "entailment, not_entailment" in told and ", ".join(NLI) in told
        assert not (tmp_path / "out").exists()

    def test_scores_and_classes_do_not_mix(self, mnli_run, tmp_path):
        data = make_glue(tmp_path / "glue", "stsb")
        told = refused("evaluate", f"--workdir={mnli_run}", "--task=glue/stsb",
                       f"--data_dir={data}")  # fmt: skip
        assert "a score" in told and "classes (entailment" in told

    def test_a_model_of_scores(self, tmp_path):
        data = make_glue(tmp_path / "glue", "stsb")
        weights = make_bert_folder(tmp_path / "bert", 1)
        called = call("evaluate", f"--init_from={weights}", "--task=glue/stsb",
                      f"--data_dir={data}", f"--output={tmp_path / 'out'}")  # fmt: skip
        assert called.code == 0, called
        record = evaluation(tmp_path / "out")
        rows = lines(tmp_path / "out" / "predictions.jsonl")
        scores = [[row[key] for row in rows] for key in ("label", "prediction")]
        assert record["metrics"]["pearson"] == pytest.approx(np.corrcoef(*scores)[0, 1], abs=1e-6)
        assert "confusion_matrix" not in record and record["classes"] == []

    def test_outputs_without_names(self, tmp_path):
        weights = make_bert_folder(tmp_path / "bert", 2)
        reviews = make_reviews(tmp_path / "reviews.csv", 12)
        arguments = ["evaluate", f"--init_from={weights}", f"--file={reviews}",
                     "--text_columns=review", "--label_column=verdict",
                     f"--output={tmp_path / 'out'}"]  # fmt: skip
        told = refused(*arguments)
        assert "LABEL_0, LABEL_1" in told and "--classes" in told and "negative, positive" in told
        assert "expected 2 different names" in refused(*arguments, "--classes=negative")
        assert call(*arguments, "--classes=negative,positive").code == 0
        assert evaluation(tmp_path / "out")["classes"] == list(SENTIMENT)

    def test_names_for_a_model_that_has_some(self, mnli_run):
        told = refused("evaluate", f"--workdir={mnli_run}", "--classes=a,b,c")
        assert "have names already (entailment, neutral, contradiction)" in told


class TestOwnFiles:
    def test_same_classes(self, mnli_run, nli_file):
        called = call("evaluate", f"--workdir={mnli_run}", f"--file={nli_file}",
                      "--text_columns=premise,hypothesis", "--label_column=gold")  # fmt: skip
        assert called.code == 0, called
        folder = mnli_run / "evaluations" / "file-own.tsv"
        record, rows = evaluation(folder), lines(folder / "predictions.jsonl")
        assert record["examples"] == 8 and record["source"] == str(nli_file)
        right = sum(row["label"] == row["prediction"] for row in rows)
        assert record["metrics"]["accuracy"] == right / 8
        assert np.sum(record["confusion_matrix"], axis=1).tolist() == [4, 0, 4]

    def test_rows_without_agreement_are_left_out(self, mnli_run, tmp_path):
        rows = [f"{label}\t{PAIRS[0]}\t{PAIRS[1]}" for label in (NLI[0], "-", NLI[2])]
        path = write(tmp_path / "snli.tsv", "gold_label\tsentence1\tsentence2", *rows)
        called = call("evaluate", f"--workdir={mnli_run}", f"--file={path}",
                      "--label_column=gold_label")  # fmt: skip
        assert called.code == 0, called
        assert f"note: 1 rows of {path} without agreement (label '-') were left out" in called.out
        assert evaluation(mnli_run / "evaluations" / "file-snli.tsv")["examples"] == 2

    def test_columns_of_the_run_by_default(self, reviews_run, tmp_path):
        reviews = make_reviews(tmp_path / "new.csv", 6)
        called = call("evaluate", f"--workdir={reviews_run}", f"--file={reviews}")
        assert called.code == 0, called
        record = evaluation(reviews_run / "evaluations" / "file-new.csv")
        assert record["examples"] == 6 and record["f1_of"] == "positive"

    def test_cut_texts_are_counted(self, reviews_run, tmp_path):
        rows = [f"{'good film ' * 30},positive", "bad book,negative"]
        path = write(tmp_path / "long.csv", "review,verdict", *rows)
        called = call("evaluate", f"--workdir={reviews_run}", f"--file={path}",
                      f"--output={tmp_path}")  # fmt: skip
        assert evaluation(tmp_path)["truncated"] == 1
        assert "1 of them are longer than 32 tokens and were cut" in called.out

    def test_unknown_label(self, reviews_run, tmp_path):
        path = write(tmp_path / "odd.csv", "review,verdict", "good,positive", "bad,awful")
        told = refused("evaluate", f"--workdir={reviews_run}", f"--file={path}")
        assert "awful, positive" in told and "negative, positive" in told

    def test_labels_with_commas_are_quoted(self, reviews_run, tmp_path):
        path = write(tmp_path / "odd.csv", "review,verdict", "good,positive", 'bad,"awful, really"')
        told = refused("evaluate", f"--workdir={reviews_run}", f"--file={path}")
        assert "has the labels 'awful, really', positive; the model" in told

    def test_single_texts_for_a_model_of_pairs(self, mnli_run, nli_file):
        told = refused("evaluate", f"--workdir={mnli_run}", f"--file={nli_file}",
                       "--text_columns=premise", "--label_column=gold")  # fmt: skip
        assert "was trained on pairs of texts (glue/mnli)" in told and "single texts" in told

    def test_two_files_of_one_name(self, reviews_run, tmp_path):
        paths = [
            make_reviews(tmp_path / name / "same.csv", rows) for name, rows in (("a", 4), ("b", 6))
        ]
        first = ["evaluate", f"--workdir={reviews_run}", f"--file={paths[0]}"]
        assert call(*first).code == 0 and call(*first).code == 0
        before = contents(reviews_run / "evaluations" / "file-same.csv")
        told = refused("evaluate", f"--workdir={reviews_run}", f"--file={paths[1]}")
        assert str(paths[0]) in told and "--output" in told
        assert contents(reviews_run / "evaluations" / "file-same.csv") == before

    def test_many_classes_are_told_by_their_mistakes(self, tmp_path):
        classes = [f"c{k:02}" for k in range(25)]
        weights = make_bert_folder(tmp_path / "bert", classes)
        path = write(tmp_path / "many.csv", "sentence,label", *(f"good {c},{c}" for c in classes))
        called = call("evaluate", f"--init_from={weights}", f"--file={path}",
                      f"--output={tmp_path / 'out'}")  # fmt: skip
        assert called.code == 0 and "the most frequent mistakes" in called.out
        assert len(evaluation(tmp_path / "out")["confusion_matrix"]) == 25
        assert not (tmp_path / "out" / "confusion.svg").exists()


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ([], "no model: expected either --workdir=RUN or --init_from=DIR"),
            (["--workdir=RUN", "--init_from=RUN"], "two models"),
            (["--workdir=NOWHERE"], "NOWHERE is not a run folder"),
            (["--workdir=BERT"], "is not a run folder: model.json is missing"),
            (["--init_from=BERT", "--task=glue/mnli"], "have no classifier"),
            (["--init_from=BERT", "--step=3"], "is not a run folder"),
            (["--workdir=RUN", "--splitt=dev"], "(did you mean '--split'?)"),
            (["--workdir=RUN", "--step=last"], "invalid int value: 'last'"),
            (["--workdir=RUN", "--split=dve"], "has no split 'dve'"),
            (["--workdir=RUN", "--task=glue/axx"], "unknown GLUE task 'axx'"),
            (["--workdir=RUN", "--task=axx"], "expected --task=glue/TASK"),
            (["--workdir=RUN", "--task=AX"], "--task=AX is unknown (did you mean 'glue/ax'?)"),
            (["--workdir=RUN", "--task=ax"], "RUN was trained on glue/mnli)"),
            (["--workdir=RUN", "--task=text"], "nothing to score: expected --task=glue/TASK"),
            (["--workdir=RUN", "--file=a.txt"], "a.txt: plain text has no columns"),
            (["--workdir=RUN", "--file=a"], "expected one of .tsv, .csv, .jsonl (also"),
            (["--workdir=RUN", "--task=glue/qqp"], "glue/qqp dev not found"),
            (["--workdir=RUN", "--data_dir=NOWHERE"], "NOWHERE does not exist"),
            (["--workdir=RUN", "--file=NOWHERE.tsv"], "NOWHERE.tsv: cannot be read"),
            (["--workdir=RUN", "--file=NOWHERE.doc"], "unknown kind of file"),
            (["--workdir=RUN", "--label_column=gold"], "no meaning without --file"),
            (["--workdir=RUN", "--file=a.tsv", "--split=dev"], "no meaning with --file"),
            (["--workdir=RUN", "--max_length=41"], "--max_length=41: expected 5 to 40"),
            (["--workdir=RUN", "--compute_dtype=int8"], "compute_dtype 'int8' is not supported"),
            (["--workdir=RUN", "--output=BERT/config.json"], "config.json is a file"),
        ],
    )
    def test_one_sentence(self, mnli_run, bert_dir, arguments, told):
        places = {"RUN": str(mnli_run), "BERT": str(bert_dir)}
        for name, place in places.items():
            arguments = [argument.replace(f"={name}", f"={place}") for argument in arguments]
            told = told.replace(f"{name} was", f"{place} was")
        assert told in refused("evaluate", *arguments)

    def test_no_place_for_the_results(self, tmp_path, mnli_data):
        weights = make_bert_folder(tmp_path / "bert", NLI)
        told = refused("evaluate", f"--init_from={weights}", "--task=glue/mnli",
                       f"--data_dir={mnli_data}")  # fmt: skip
        assert "expected --output=DIR" in told and not (weights / "evaluations").exists()

    def test_a_damaged_checkpoint(self, mnli_run, tmp_path):
        copy = shutil.copytree(mnli_run, tmp_path / "run")
        files = [
            path for path in (copy / "checkpoints/00000006/state").rglob("*") if path.is_file()
        ]
        largest = max(files, key=lambda path: path.stat().st_size)
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
        told = refused("evaluate", f"--workdir={copy}")
        assert "checkpoint of step 6" in told and largest.name in told and "good steps: 3" in told

    def test_weights_that_are_not_finite(self, tmp_path, mnli_data):
        weights = make_bert_folder(tmp_path / "bert", NLI)
        _edit_head(weights, lambda name, tensor: np.full_like(tensor, 3e38))
        called = call("evaluate", f"--init_from={weights}", "--task=glue/mnli",
                      f"--data_dir={mnli_data}", f"--output={tmp_path / 'out'}")  # fmt: skip
        assert called.code == 3 and "not finite for 17 of 17 texts" in called.err
        assert not (tmp_path / "out").exists()


class TestClassifier:
    def test_the_mean_as_pooling(self, bert_dir):
        found = using.read_source(bert_dir)
        parameters = {k: v for k, v in found.parameters.items() if not k.startswith("pooler")}
        rng = np.random.default_rng(0)
        kernel = rng.standard_normal((found.config.width, 3)).astype(np.float32)
        head = {"classifier/kernel": kernel, "classifier/bias": np.zeros(3, np.float32)}
        source = using.Source(bert_dir, found.config, parameters | head, NLI, "mean")
        model = using.Classifier(source, max_length=24)
        texts = [("good film",), ("a dog runs in the garden .",), ("the",)]
        together = model.outputs(model.encode(texts))
        hidden = load(bert_dir).encode([each[0] for each in texts]).hidden
        expected = np.stack([states.mean(0) @ kernel for states in hidden])
        np.testing.assert_allclose(together, expected, rtol=1e-4, atol=1e-5)

    def test_a_head_without_pooler(self, bert_dir):
        found = using.read_source(bert_dir)
        head = {"classifier/kernel": np.zeros((16, 3)), "classifier/bias": np.zeros(3)}
        parameters = {k: v for k, v in found.parameters.items() if not k.startswith("pooler")}
        source = using.Source(bert_dir, found.config, parameters | head, NLI, "cls")
        with pytest.raises(UserError, match="lack pooler/dense"):
            using.Classifier(source)

    def test_looped_layers(self, mnli_run, monkeypatch):
        """The form that accelerators compute with gives what the CPU's gives."""
        source = using.read_classifier(mnli_run)
        texts = [("a good film", "a dull book"), ("some man", "no man sleeps in the garden")]
        outputs = []
        for backend in ("cpu", "tpu"):
            monkeypatch.setattr(using.jax, "default_backend", lambda backend=backend: backend)
            model = using.Classifier(source)
            outputs.append(model.outputs(model.encode(texts)))
        np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)

    def test_bfloat16_is_close(self, mnli_run):
        texts = [("a good film", "a dull book"), ("some man", "no man sleeps in the garden")]
        exact, rough = (
            using.Classifier(using.read_classifier(mnli_run), compute_dtype=dtype)
            for dtype in (None, "bfloat16")
        )
        a, b = (model.outputs(model.encode(texts)) for model in (exact, rough))
        assert 0 < np.abs(a - b).max() < 0.1 * np.abs(a).max()

    def test_few_shapes_for_many_chunks(self, reviews_run):
        """Chunks of all sizes share the programs of the largest ones."""
        model = using.Classifier(using.read_classifier(reviews_run))
        rng = np.random.default_rng(0)
        for size in (60, 3, 40, 1, 17, 60, 5):
            texts = [("good " * int(rng.integers(1, 28)),) for _ in range(size)]
            assert model.outputs(model.encode(texts)).shape == (size, 2)
        assert model._score._cache_size() <= 2

    def test_any_number_of_devices(self, mnli_run, mnli_data, tmp_path):
        """On three devices, over which the rows do not divide, the outputs are the same."""
        code = (
            "import os, sys; os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=3'; "
            "from gptbert import cli; sys.exit(cli.main(sys.argv[1:]))"
        )
        arguments = ["evaluate", f"--workdir={mnli_run}"]
        subprocess.run(
            [sys.executable, "-c", code, *arguments, f"--output={tmp_path / 'three'}"], check=True
        )
        assert call(*arguments, f"--output={tmp_path / 'one'}").code == 0
        three, one = evaluation(tmp_path / "three"), evaluation(tmp_path / "one")
        assert (three["device_count"], one["device_count"]) == (3, 1)
        assert three["metrics"] == one["metrics"]
        rows = [lines(tmp_path / name / "predictions.jsonl") for name in ("three", "one")]
        assert len(rows[0]) == len(rows[1]) == 17
        for a, b in zip(*rows, strict=True):
            assert a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-5)


def _edit_head(folder: Path, change) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name in ("classifier.weight", "classifier.bias"):
        tensors[name] = np.ascontiguousarray(change(name, tensors[name]))
    save_file(tensors, path, metadata={"format": "pt"})


def _reverse_head(folder: Path) -> None:
    _edit_head(folder, lambda name, tensor: tensor[::-1])
