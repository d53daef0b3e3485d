"""`gptbert prepare glue/mrpc --data_dir=DIR`: the only command that downloads."""

from __future__ import annotations

import os
import socket
import threading
import urllib.request
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gptbert.commands.arguments import Parser
from gptbert.datasets import tfds
from gptbert.datasets.glue_tasks import GLUE_TASKS, find_task
from gptbert.errors import UserError, nearest

HELP = "download a GLUE task through TensorFlow Datasets"

PROBE_SECONDS = 5.0
_PORTS = {"http": 80, "https": 443}

_EXAMPLE = """\
example:
  gptbert prepare glue/mrpc --data_dir=data
  gptbert finetune --config=configs/glue.py:mrpc --config.data_dir=data ...

No download is needed where GLUE's own folders (data/MRPC/train.tsv and so on) are at hand."""


def main(arguments: list[str]) -> int:
    """Prepares one data set as array_record files that are read without TensorFlow.

    Raises:
      UserError: unknown data set or flag, no network, a failed download, an unwritable folder.
    """
    name, data_dir = _parse(arguments)
    task = _task(name)
    folder = tfds.version_folder(data_dir / "glue" / task)
    if folder is not None:
        print(f"glue/{task} is already prepared in {folder}")
        return 0
    builder = _builder(f"glue/{task}", data_dir)
    for host, port in _servers(builder):
        if problem := _unreachable(host, port):
            raise UserError(
                f"glue/{task} cannot be downloaded: {problem}; without a network put GLUE's own "
                f"folder there ({data_dir}/{GLUE_TASKS[task].folders[0]}/train.tsv), which needs "
                "no preparation"
            )
    _download(builder, f"glue/{task}", data_dir)
    print(f"prepared glue/{task} in {builder.data_path}")
    return 0


def _parse(arguments: list[str]) -> tuple[str, Path]:
    parser = Parser("prepare", f"{HELP}; needs a network", _EXAMPLE)
    default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    parser.add_argument("dataset", nargs="*", help="glue/mrpc and so on")
    parser.add_argument("--data_dir", default=default, help="folder to fill (%(default)s)")
    flags = parser.parse(arguments)
    if len(flags.dataset) != 1:
        raise UserError(
            f"gptbert prepare takes one data set, found {len(flags.dataset)}; for instance "
            "`gptbert prepare glue/mrpc --data_dir=data`"
        )
    return flags.dataset[0], Path(flags.data_dir).expanduser()


def _task(name: str) -> str:
    collection, _, task = name.partition("/")
    if collection != "glue" or not task:
        known = [f"glue/{task}" for task in GLUE_TASKS]
        raise UserError(
            f"unknown data set {name!r}{nearest(name, known)}; known: {', '.join(known)}"
        )
    return find_task(task).name


def _builder(name: str, data_dir: Path) -> Any:
    try:
        import tensorflow_datasets

        # Without TensorFlow the older modules register themselves only when imported by name.
        import tensorflow_datasets.text.glue
    except ImportError as error:
        raise UserError(f"preparing data needs tensorflow-datasets ({error})") from error
    return tensorflow_datasets.builder(name, data_dir=str(data_dir))


def _servers(builder: Any) -> list[tuple[str, int]]:
    """The hosts and ports that the builder will download from."""
    configs = {config.data_url for config in builder.BUILDER_CONFIGS}
    own = builder.builder_config.data_url
    # MRPC names no archive: its three files are those that belong to no other task.
    urls = [urlsplit(url) for url in ([own] if own else set(builder.url_infos) - configs)]
    return sorted({(url.hostname or "", url.port or _PORTS[url.scheme]) for url in urls})


def _unreachable(host: str, port: int) -> str:
    """Why `host` (or the proxy in front of it) cannot be reached within seconds, or ''."""
    proxy = urllib.request.getproxies().get("https")
    if proxy and not urllib.request.proxy_bypass(host):
        place = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        host, port = place.hostname or host, place.port or _PORTS["http"]
    problems = [f"no answer from {host} within {PROBE_SECONDS:g} s"]
    # In a thread, since looking up a name has no time limit of its own.
    probe = threading.Thread(target=_connect, args=(host, port, problems), daemon=True)
    probe.start()
    probe.join(PROBE_SECONDS)
    return problems[-1]


def _connect(host: str, port: int, problems: list[str]) -> None:
    try:
        socket.create_connection((host, port), timeout=PROBE_SECONDS).close()
        problems.append("")
    except OSError as error:
        problems.append(f"{host} cannot be reached ({error.strerror or error})")


def _download(builder: Any, name: str, data_dir: Path) -> None:
    from tensorflow_datasets.core.download import download_manager, extractor, util

    known = (util.DownloadError, extractor.ExtractError, download_manager.NonMatchingChecksumError)
    try:
        _unpack_archive(builder, data_dir / "downloads")
        builder.download_and_prepare(file_format="array_record")
    # requests' errors are OSErrors, and so is a full disk.
    except (OSError, zipfile.BadZipFile, *known) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name} could not be prepared: {reason:.300}") from error


def _unpack_archive(builder: Any, downloads: Path) -> None:
    """Downloads and unpacks the task's zip where TFDS looks before it unpacks one itself.

    TFDS's own way of unpacking calls TensorFlow (seen in 4.9.10).
    """
    from tensorflow_datasets.core.download.download_manager import DownloadManager

    url = builder.builder_config.data_url
    if not url.endswith(".zip"):
        return
    manager = DownloadManager(
        download_dir=downloads, url_infos=builder.url_infos, dataset_name=builder.name
    )
    archive = Path(manager.download(url))
    target = downloads / "extracted" / f"ZIP.{archive.name}"
    if target.exists():
        return
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    with zipfile.ZipFile(archive) as content:
        content.extractall(unfinished)
    unfinished.rename(target)
