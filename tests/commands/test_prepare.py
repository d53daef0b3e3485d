"""`gptbert prepare`: without a network, with a local server in place of one, and done before."""

from __future__ import annotations

import functools
import http.server
import socket
import threading
import zipfile
from pathlib import Path

import pytest

from gptbert.commands import prepare
from gptbert.datasets import Example
from gptbert.datasets.glue import read_glue
from gptbert.errors import UserError

pytest.importorskip("tensorflow_datasets")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch) -> None:
    monkeypatch.setattr(prepare.urllib.request, "getproxies", dict)


def _refuse(*args, **kwargs):
    raise OSError("Network is unreachable")


def test_without_network_it_ends_at_once_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(socket, "create_connection", _refuse)
    folder = tmp_path / "data"
    with pytest.raises(UserError) as caught:
        prepare.main(["glue/mrpc", f"--data_dir={folder}"])
    message = str(caught.value)
    assert "dl.fbaipublicfiles.com cannot be reached (Network is unreachable)" in message
    assert f"put GLUE's own folder there ({folder}/MRPC/train.tsv)" in message
    assert not folder.exists()


def test_a_network_that_never_answers_is_given_up_within_seconds(monkeypatch) -> None:
    monkeypatch.setattr(prepare, "PROBE_SECONDS", 0.2)
    answer = threading.Event()

    def connect(*arguments, **options):
        assert answer.wait(60)
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", connect)
    assert prepare._unreachable("example.org", 443) == "no answer from example.org within 0.2 s"
    answer.set()


def test_behind_a_proxy_the_proxy_is_asked(monkeypatch) -> None:
    asked = []

    def connect(address, timeout):
        asked.append(address)
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", connect)
    proxies = {"https": "http://proxy.example:3128"}
    monkeypatch.setattr(prepare.urllib.request, "getproxies", lambda: proxies)
    assert prepare._unreachable("example.org", 443) == ""
    assert asked == [("proxy.example", 3128)]


@pytest.mark.parametrize(
    ("task", "hosts"),
    [
        ("rte", ["dl.fbaipublicfiles.com"]),
        ("mrpc", ["dl.fbaipublicfiles.com", "firebasestorage.googleapis.com"]),
    ],
)
def test_only_the_hosts_that_are_needed_are_asked(tmp_path: Path, task: str, hosts) -> None:
    builder = prepare._builder(f"glue/{task}", tmp_path)
    assert prepare._servers(builder) == [(host, 443) for host in hosts]


@pytest.fixture
def server(tmp_path: Path):
    """Serves a folder on a free port; yields (folder, address)."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def _redirect(monkeypatch, address: str) -> None:
    """Lets TFDS fetch RTE from the local server; everything else of it stays as it is."""
    original = prepare._builder

    def builder(name: str, data_dir: Path):
        found = original(name, data_dir)
        monkeypatch.setattr(found.builder_config, "data_url", f"{address}/RTE.zip")
        return found

    monkeypatch.setattr(prepare, "_builder", builder)


def test_it_downloads_and_prepares_and_says_so(tmp_path: Path, server, monkeypatch, capsys) -> None:
    folder, address = server
    header = "index\tsentence1\tsentence2"
    with zipfile.ZipFile(folder / "RTE.zip", "w") as archive:
        for split in ("train", "dev"):
            row = f'0\tsaid "{split}\tB\tnot_entailment'
            archive.writestr(f"RTE/{split}.tsv", f"{header}\tlabel\n{row}\n")
        archive.writestr("RTE/test.tsv", f"{header}\n0\tA\tB\n")
    _redirect(monkeypatch, address)
    data_dir = tmp_path / "data"
    arguments = ["glue/rte", "--data_dir", str(data_dir)]
    assert prepare.main(arguments) == 0
    assert f"prepared glue/rte in {data_dir}/glue/rte/2.0.0" in capsys.readouterr().out
    dataset = read_glue("rte", "dev", data_dir)
    assert dataset.examples == [Example("0", ('said "dev', "B"), "not_entailment")]
    assert "array_record" in next(Path(dataset.source).glob("glue-train*")).name

    monkeypatch.setattr(prepare, "_builder", _refuse)  # the second call touches no network
    assert prepare.main(arguments) == 0
    assert "glue/rte is already prepared in" in capsys.readouterr().out


def test_a_failed_download_is_one_sentence(tmp_path: Path, server, monkeypatch) -> None:
    _, address = server
    _redirect(monkeypatch, address)
    with pytest.raises(UserError, match=r"glue/rte could not be prepared: .*RTE.zip.*404"):
        prepare.main(["glue/rte", f"--data_dir={tmp_path}/data"])
    assert not list(Path(tmp_path / "data").glob("glue/rte/2.0.0*"))


def test_an_archive_that_is_no_zip(tmp_path: Path, server, monkeypatch) -> None:
    folder, address = server
    (folder / "RTE.zip").write_text("<html>Moved</html>")
    _redirect(monkeypatch, address)
    with pytest.raises(UserError, match=r"glue/rte could not be prepared: File is not a zip file"):
        prepare.main(["glue/rte", f"--data_dir={tmp_path}/data"])


def test_a_folder_that_cannot_be_written(tmp_path: Path, server, monkeypatch) -> None:
    _redirect(monkeypatch, server[1])
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        UserError, match=r"glue/rte could not be prepared: .*(Not a dir|File exists)"
    ):
        prepare.main(["glue/rte", f"--data_dir={tmp_path}/file"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["glue/mprc"], r"unknown GLUE task 'mprc' \(did you mean 'mrpc'\?\)"),
        (["glu/mrpc"], r"unknown data set 'glu/mrpc' \(did you mean 'glue/mrpc'\?\); known: glue"),
        (["mrpc"], r"unknown data set 'mrpc' \(did you mean 'glue/mrpc'\?\)"),
        (["glue"], r"unknown data set 'glue'"),
        ([], r"takes one data set, found 0; for instance `gptbert prepare glue/mrpc"),
        (["glue/rte", "glue/mrpc"], r"takes one data set, found 2"),
        (
            ["glue/rte", "--datadir=x"],
            r"unknown argument --datadir \(did you mean '--data_dir'\?\)",
        ),
    ],
)
def test_bad_arguments(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare.main(arguments)


def test_help_has_an_example_and_ends_with_0(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        prepare.main(["--help"])
    assert caught.value.code == 0
    assert "gptbert prepare glue/mrpc --data_dir=data" in capsys.readouterr().out
