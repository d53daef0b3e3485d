"""`gptbert predict`: texts from everywhere, a line out for each, in bounded memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from gptbert import cli
from gptbert.datasets import Example
from gptbert.runs import chunks, predict, using
from gptbert.runs.output import whole_file
from gptbert.runs.using import Classifier, read_classifier
from tests.fabricated import contents
from tests.fixtures_runs import SENTIMENT, call, make_bert_folder, refused

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("quickly")]

TEXTS = ["a good film .", "the dull, very dull book", 'a "fine" story']
WRITTEN = {
    "txt": "\n".join(TEXTS) + "\n",
    "tsv": "id\treview\n" + "".join(f"{k}\t{text}\n" for k, text in enumerate(TEXTS)),
    "csv": 'id,review\n0,a good film .\n1,"the dull, very dull book"\n2,"a ""fine"" story"\n',
    "jsonl": "".join(json.dumps({"review": text, "verdict": 7}) + "\n" for text in TEXTS),
}


def records(text: str) -> list[dict]:
    return [json.loads(line) for line in text.split("\n")[:-1]]


@pytest.fixture(scope="module")
def expected(reviews_run) -> list[dict]:
    """What the model says of TEXTS, each computed alone."""
    return [records(call("predict", f"--workdir={reviews_run}", text).out)[0] for text in TEXTS]


def assert_same(found: list[dict], expected: list[dict]) -> None:
    assert [each["id"] for each in found] == [str(k) for k in range(len(expected))]
    for a, b in zip(found, expected, strict=True):
        assert a["texts"] == b["texts"] and a["prediction"] == b["prediction"]
        assert a["probabilities"] == pytest.approx(b["probabilities"], abs=2e-6)


class TestSources:
    def test_typed(self, reviews_run, expected):
        called = call("predict", f"--workdir={reviews_run}", *TEXTS)
        assert called.code == 0 and called.err == ""
        assert_same(records(called.out), expected)
        for record in records(called.out):
            shares = record["probabilities"]
            assert tuple(shares) == SENTIMENT and sum(shares.values()) == pytest.approx(1, abs=2e-6)
            assert record["prediction"] == max(shares, key=shares.get)

    def test_flags_between_texts_and_a_text_like_a_flag(self, reviews_run):
        called = call("predict", "good", f"--workdir={reviews_run}", "bad", "--", "--split")
        assert [r["texts"] for r in records(called.out)] == [["good"], ["bad"], ["--split"]]

    @pytest.mark.parametrize("suffix", ["txt", "tsv", "csv", "jsonl", "csv.gz"])
    def test_files(self, reviews_run, expected, tmp_path, suffix):
        path = tmp_path / f"new.{suffix}"
        content = WRITTEN[suffix.removesuffix(".gz")].encode()
        path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
        called = call("predict", f"--workdir={reviews_run}", f"--input={path}")
        assert called.code == 0, called
        assert_same(records(called.out), expected)

    def test_standard_input(self, reviews_run, expected):
        for arguments in ([], ["--input=-"]):
            called = call("predict", f"--workdir={reviews_run}", *arguments,
                          stdin=WRITTEN["txt"].encode())  # fmt: skip
            assert_same(records(called.out), expected)
        called = call("predict", f"--workdir={reviews_run}", "--input_format=csv",
                      stdin=WRITTEN["csv"].encode())  # fmt: skip
        assert_same(records(called.out), expected)

    def test_empty_lines_are_texts(self, reviews_run):
        """Lines out match lines in; U+2028 and a carriage return inside a line end none."""
        called = call("predict", f"--workdir={reviews_run}",
                      stdin="good\n\nbad\u2028book\r\r\n\n".encode())  # fmt: skip
        texts = [record["texts"][0] for record in records(called.out)]
        assert texts == ["good", "", "bad\u2028book\r", ""]

    def test_nothing_in_nothing_out(self, reviews_run):
        assert call("predict", f"--workdir={reviews_run}") == (0, "", "")

    def test_pairs(self, mnli_run, tmp_path):
        typed = call("predict", f"--workdir={mnli_run}", "--pair", "a cat", "a dog",
                     "--pair", "some man", "no man")  # fmt: skip
        expected = records(typed.out)
        assert [each["texts"] for each in expected] == [["a cat", "a dog"], ["some man", "no man"]]
        piped = call("predict", f"--workdir={mnli_run}", stdin=b"a cat\ta dog\nsome man\tno man\n")
        assert_same(records(piped.out), expected)
        path = tmp_path / "pairs.csv"
        path.write_text("b,a\na dog,a cat\nno man,some man\n")
        read = call("predict", f"--workdir={mnli_run}", f"--input={path}", "--text_columns=a,b")
        assert_same(records(read.out), expected)

    def test_order_of_a_pair_matters(self, mnli_run):
        out = call("predict", f"--workdir={mnli_run}", "--pair", "a cat", "dull film",
                   "--pair", "dull film", "a cat").out  # fmt: skip
        one, other = records(out)
        assert one["probabilities"] != other["probabilities"]

    def test_lone_surrogates_of_json(self, reviews_run, tmp_path):
        path = tmp_path / "odd.jsonl"
        path.write_text('{"review": "good \\ud800 film"}\n')
        called = call("predict", f"--workdir={reviews_run}", f"--input={path}")
        assert called.code == 0 and records(called.out)[0]["texts"] == ["good \ud800 film"]

    def test_weights_of_others_take_texts_and_pairs(self, tmp_path):
        weights = make_bert_folder(tmp_path / "bert", 3)
        out = call("predict", f"--init_from={weights}", "a cat").out
        out += call("predict", f"--init_from={weights}", "--pair", "a cat", "a dog").out
        assert [len(each["texts"]) for each in records(out)] == [1, 2]
        assert list(records(out)[0]["probabilities"]) == ["LABEL_0", "LABEL_1", "LABEL_2"]
        out = call("predict", f"--init_from={weights}", "--classes=x,y,z", "a cat").out
        assert list(records(out)[0]["probabilities"]) == ["x", "y", "z"]

    def test_a_score(self, tmp_path):
        weights = make_bert_folder(tmp_path / "bert", 1)
        record = records(call("predict", f"--init_from={weights}", "a cat").out)[0]
        assert set(record) == {"id", "texts", "prediction"}
        out = call("predict", f"--init_from={weights}", "--format=tsv", "a cat").out
        assert out.splitlines()[0] == "prediction"
        assert float(out.splitlines()[1]) == pytest.approx(record["prediction"], abs=1e-6)

    def test_an_unfinished_run_is_said(self, reviews_run, tmp_path):
        copy = shutil.copytree(reviews_run, tmp_path / "run")
        (copy / "results.json").unlink()
        called = call("predict", f"--workdir={copy}", "good")
        assert called.code == 0 and len(records(called.out)) == 1
        assert "is not finished; the weights of step" in called.err


class TestOutput:
    def test_cut_texts_are_counted(self, reviews_run):
        called = call("predict", f"--workdir={reviews_run}", "good", "bad " * 40, "a " * 30)
        assert called.code == 0 and len(records(called.out)) == 3
        assert called.err == "gptbert: 1 of 3 texts are longer than 32 tokens and were cut\n"
        called = call("predict", f"--workdir={reviews_run}", "--max_length=40", "good " * 38)
        assert called.err == ""

    def test_tsv(self, reviews_run, expected, tmp_path):
        path = tmp_path / "labels.tsv"
        called = call("predict", f"--workdir={reviews_run}", f"--output={path}", *TEXTS)
        assert called.code == 0 and called.out == ""
        printed = call("predict", f"--workdir={reviews_run}", "--format=tsv", *TEXTS).out
        assert path.read_text() == printed
        head, *rows = [line.split("\t") for line in printed.splitlines()]
        assert head == ["prediction", "negative", "positive"]
        assert [row[0] for row in rows] == [each["prediction"] for each in expected]
        shares = [list(each["probabilities"].values()) for each in expected]
        np.testing.assert_allclose(np.array([row[1:] for row in rows], float), shares, atol=2e-6)

    def test_csv(self, tmp_path):
        weights = make_bert_folder(tmp_path / "bert", ["no, never", 'a "yes"'])
        path = tmp_path / "labels.CSV"
        called = call("predict", f"--init_from={weights}", f"--output={path}", *TEXTS)
        assert called.code == 0 and called.out == ""
        printed = call("predict", f"--init_from={weights}", "--format=csv", *TEXTS).out
        assert path.read_text() == printed
        head, *rows = csv.reader(io.StringIO(printed))
        assert head == ["prediction", "no, never", 'a "yes"']
        tsv = call("predict", f"--init_from={weights}", "--format=tsv", *TEXTS).out
        assert rows == [line.split("\t") for line in tsv.splitlines()[1:]]

    def test_a_column_with_a_comma(self, reviews_run, expected, tmp_path):
        path = tmp_path / "new.csv"
        path.write_text(WRITTEN["csv"].replace("review", '"Review, full"'))
        called = call("predict", f"--workdir={reviews_run}", f"--input={path}",
                      "--text_columns=('Review, full',)")  # fmt: skip
        assert_same(records(called.out), expected)

    def test_whole_or_absent(self, reviews_run, tmp_path, monkeypatch):
        monkeypatch.setattr(chunks, "EXAMPLES", 2)
        source, path = tmp_path / "new.tsv", tmp_path / "out.jsonl"
        source.write_text("review\n" + "good\n" * 5 + "good\tbad\n")
        told = refused("predict", f"--workdir={reviews_run}", f"--input={source}",
                       f"--output={path}")  # fmt: skip
        assert f"{source}:7: 2 columns instead of 1" in told
        assert set(contents(tmp_path)) == {"new.tsv"}
        path.write_text("older")
        refused("predict", f"--workdir={reviews_run}", f"--input={source}", f"--output={path}")
        assert path.read_text() == "older"
        source.write_text("review\n" + "good\n" * 5)
        called = call("predict", f"--workdir={reviews_run}", f"--input={source}",
                      f"--output={path}")  # fmt: skip
        assert called == (0, "", "") and len(records(path.read_text())) == 5

    def test_a_device_is_written_to_as_it_is(self, reviews_run):
        assert call("predict", f"--workdir={reviews_run}", "--output=/dev/null", "a").code == 0
        assert not Path("/dev/null").is_file()
        told = refused("predict", f"--workdir={reviews_run}", "--output=/dev/full", "a")
        assert "cannot write /dev/full: No space left" in told

    def test_a_full_disk_leaves_nothing(self, tmp_path):
        with pytest.raises(Exception, match="cannot write"), whole_file(tmp_path / "out") as file:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        assert list(tmp_path.iterdir()) == []


class TestStreaming:
    def test_order_and_bounded_chunks(self, reviews_run, monkeypatch):
        """Nothing is read further ahead than a chunk, whatever is still to come."""
        monkeypatch.setattr(chunks, "EXAMPLES", 8)
        taken = 0

        def endless():
            nonlocal taken
            for number in range(50):
                taken += 1
                yield Example(str(number), (f"good {'very ' * (number % 7)}film",))

        class Watched(io.BytesIO):
            ahead = 0

            def flush(self):
                self.ahead = max(self.ahead, taken - self.getvalue().count(b"\n"))

        file, model = Watched(), Classifier(read_classifier(reviews_run))
        assert predict.predict(model, predict.Stream(endless()), file) == (50, 0)
        assert [each["id"] for each in records(file.getvalue().decode())] == [*map(str, range(50))]
        assert file.ahead == 0

    def test_long_documents_make_short_chunks(self, monkeypatch):
        monkeypatch.setattr(chunks, "CHARACTERS", 1000)
        examples = [Example("", ("x" * 300,)) for _ in range(10)]
        assert [len(chunk) for chunk in chunks.in_chunks(examples)] == [4, 4, 2]

    def test_what_has_arrived_makes_a_chunk(self):
        waiting = iter([True, False, False, True, True, False])
        examples = [Example(str(k), ("x",)) for k in range(6)]
        found = chunks.in_chunks(examples, lambda: next(waiting))
        assert [[each.id for each in chunk] for chunk in found] == [
            ["0", "1"], ["2"], ["3", "4", "5"],
        ]  # fmt: skip

    def test_a_dialogue_through_pipes(self, reviews_run):
        """Each line is answered before the next one is written."""
        process = subprocess.Popen(
            [sys.executable, "-m", "gptbert", "predict", f"--workdir={reviews_run}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(60, process.kill)
        timer.start()
        try:
            for text in ("good film", "bad", "a dull book"):
                process.stdin.write(text.encode() + b"\n")
                process.stdin.flush()
                assert json.loads(process.stdout.readline())["texts"] == [text]
            process.stdin.write(b"the last line has no end")
            process.stdin.close()
            assert json.loads(process.stdout.readline())["texts"] == ["the last line has no end"]
            assert process.wait() == 0
        finally:
            timer.cancel()
            process.kill()
            process.stdout.close()

    def test_a_reader_that_has_seen_enough(self, reviews_run):
        command = f"yes 'a good film' | {sys.executable} -m gptbert predict --workdir={reviews_run}"
        done = subprocess.run(
            ["bash", "-c", f"{{ {command}; echo code $? >&2; }} | head -n 2"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert len(records(done.stdout)) == 2
        assert done.stderr == "code 0\n"


class TestPipe:
    def test_lines_as_they_come(self):
        reading, writing = os.pipe()
        pipe = chunks.Pipe(reading)
        assert not pipe.has_line()
        os.write(writing, b"one\ntw")
        assert pipe.has_line() and pipe.readline(100) == b"one\n"
        assert not pipe.has_line()
        os.write(writing, b"o\nthree")
        assert pipe.has_line() and pipe.readline(100) == b"two\n"
        os.close(writing)
        assert pipe.has_line() and pipe.readline(100) == b"three"
        assert pipe.readline(100) == b"" and pipe.has_line()
        os.close(reading)

    def test_endless_lines_are_cut_at_the_limit(self):
        reading, writing = os.pipe()
        os.write(writing, b"x" * 1000)
        pipe = chunks.Pipe(reading)
        assert pipe.readline(300) == b"x" * 300
        os.close(writing)
        assert [len(pipe.readline(600)) for _ in range(3)] == [600, 100, 0]
        os.close(reading)


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["a", "--input=x.txt"], "texts in more than one way"),
            (["a", "--pair", "b", "c"], "texts in more than one way"),
            (["--pair", "a", "b"], "was trained on single texts (text)"),
            (["--input=NEW.csv", "--text_columns=a,b"], "was trained on single texts"),
            (["--input=NOWHERE.txt"], "cannot be read: No such file"),
            (["--input=NEW.csv", "--text_columns=reviews"], "(did you mean 'review'?)"),
            (["--input=NEW.doc"], "unknown kind of file"),
            (["--input_format=xml"], "--input_format=xml: unknown"),
            (["--format=xml", "a"], "invalid choice: 'xml'"),
            (["--format=jsonl", "--output=b.csv", "a"], "b.csv is the name of a csv file, but"),
            (["--outputs=b", "a"], "(did you mean '--output'?)"),
            (["--output=NOWHERE/b", "a"], "cannot write NOWHERE/b: No such file"),
            (["--output=.", "a"], "is a folder"),
            (["--input=NEW.csv", "--output=NEW.csv"], "is the input"),
            (["--max_length=2", "a"], "expected at least 3"),
            (["--max_length=41", "a"], "expected 3 to 40"),
            (["a \udcff"], "text 1 of the command line is not UTF-8"),
        ],
    )
    def test_one_sentence(self, reviews_run, tmp_path, monkeypatch, arguments, told):
        monkeypatch.chdir(tmp_path)
        Path("NEW.csv").write_text("review\ngood\n")
        before = contents(tmp_path)
        assert told in refused("predict", f"--workdir={reviews_run}", *arguments)
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("command", ["predict", "export"])
    @pytest.mark.parametrize("content", ['{"checkpoint": {"st', "{}", "[]", '{"checkpoint": 3}'])
    def test_damaged_results(self, reviews_run, tmp_path, command, content):
        run = tmp_path / "run"
        shutil.copytree(reviews_run, run)
        (run / "results.json").write_text(content)
        more = ["a text"] if command == "predict" else [f"--output={tmp_path / 'out'}"]
        told = refused(command, f"--workdir={run}", *more)
        assert f"{run / 'results.json'} is damaged" in told and "--step=N names a" in told

    def test_a_platform_that_is_not_there(self, reviews_run):
        command = [sys.executable, "-m", "gptbert", "predict", f"--workdir={reviews_run}", "a"]
        environment = {**os.environ, "JAX_PLATFORMS": "nonsense"}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert "JAX_PLATFORMS='nonsense' cannot be used" in done.stderr

    def test_nothing_is_loaded_for_what_no_model_can_do(self, monkeypatch, reviews_run):
        monkeypatch.setattr(using, "read_source", lambda *_: pytest.fail("weights were read"))
        for flag, expected in (
            ("--compute_dtype=float61", "'float61' is not supported"),
            ("--max_length=1", "--max_length=1: expected at least 3"),
        ):
            assert expected in refused("predict", f"--workdir={reviews_run}", flag, "a text")

    def test_a_score_has_no_classes(self, tmp_path):
        weights = make_bert_folder(tmp_path / "bert", 1)
        told = refused("predict", f"--init_from={weights}", "--classes=x", "a text")
        assert "--classes=x: the model in" in told and "gives a score" in told

    def test_single_texts_for_a_model_of_pairs(self, mnli_run):
        told = refused("predict", f"--workdir={mnli_run}", "a cat")
        assert "was trained on pairs of texts (glue/mnli)" in told and "--pair A B" in told
        called = call("predict", f"--workdir={mnli_run}", stdin=b"a cat\n")
        assert called.code == 2 and "1 texts instead of 2, to be separated by tabs" in called.err

    def test_bytes_that_are_no_text(self, reviews_run):
        called = call("predict", f"--workdir={reviews_run}", stdin=b"good\nna\xefve\n")
        assert called.code == 2 and ":2: not UTF-8" in called.err

    def test_standard_input_that_is_closed(self, reviews_run, monkeypatch, capsys):
        monkeypatch.setattr(sys, "stdin", None)
        for more in ([], ["--input=-"]):
            assert cli.main(["predict", f"--workdir={reviews_run}", *more]) == 2
            assert "no texts; expected TEXT" in capsys.readouterr().err

    def test_a_file_of_nothing_but_its_header(self, reviews_run, tmp_path):
        (tmp_path / "in.csv").write_text("review,stars\n")
        command = ["predict", f"--workdir={reviews_run}", f"--input={tmp_path / 'in.csv'}"]
        said = refused(*command, f"--output={tmp_path / 'out.tsv'}")
        assert "in.csv: no texts; expected at least one" in said
        assert not (tmp_path / "out.tsv").exists()

    def test_no_texts_at_a_terminal(self, reviews_run, monkeypatch, capsys):
        keyboard, terminal = pty.openpty()
        with open(terminal) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert cli.main(["predict", f"--workdir={reviews_run}"]) == 2
        os.close(keyboard)
        assert "no texts; expected TEXT" in capsys.readouterr().err
