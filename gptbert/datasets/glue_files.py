"""Where a GLUE split lies under the folder that a user named, and what to say if it does not.

Three layouts are known: GLUE's own (`DIR/MRPC/train.tsv`), TensorFlow Datasets'
(`DIR/glue/mrpc/2.0.0/dataset_info.json`) and the Hugging Face hub's
(`DIR/mrpc/train-00000-of-00001.parquet`). DIR may also be the task's own folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gptbert.datasets import tfds
from gptbert.datasets.glue_tasks import GLUE_TASKS, GlueTask
from gptbert.datasets.lines import COMPRESSIONS
from gptbert.errors import UserError

MRPC_TRAIN = "msr_paraphrase_train.txt"
MRPC_TEST = "msr_paraphrase_test.txt"
MRPC_DEV_IDS = ("dev_ids.tsv", "mrpc_dev_ids.tsv")


def official_file(task: GlueTask, split: str, data_dir: Path) -> Path | None:
    """The split's file in GLUE's layout, perhaps compressed, or None."""
    return _first_file(task, data_dir, task.splits[split].files)


def mrpc_originals(task: GlueTask, split: str, data_dir: Path) -> tuple[Path, Path | None] | None:
    """Microsoft's file that MRPC's split is cut from, with the list of dev pairs (not for test)."""
    if task.name != "mrpc":
        return None
    pairs = _first_file(task, data_dir, (MRPC_TEST if split == "test" else MRPC_TRAIN,))
    dev_ids = None if split == "test" else _first_file(task, data_dir, MRPC_DEV_IDS)
    if pairs is None or (split != "test" and dev_ids is None):
        return None
    return pairs, dev_ids


def prepared_folder(task: GlueTask, split: str, data_dir: Path) -> tuple[Path, str] | None:
    """TFDS's version folder that has the split, with TFDS's name of the split, or None."""
    for config, tfds_split in _tfds_names(task, split):
        for root in (data_dir, data_dir / config, data_dir / "glue" / config):
            folder = tfds.version_folder(root)
            if folder is None:
                continue
            info = tfds.read_info(folder)
            if info.config == config and tfds_split in info.shards:
                return folder, tfds_split
    return None


def hub_files(task: GlueTask, split: str, data_dir: Path) -> list[Path]:
    """The split's parquet files as the Hugging Face hub lays them out; empty if there are none."""
    for config, hub_split in _tfds_names(task, split):
        roots = [data_dir / config, data_dir / "glue" / config]
        if data_dir.resolve().name == config:
            roots.append(data_dir)
        for root in roots:
            if files := tfds.parquet_files(root, hub_split):
                return files
    return []


def not_found(task: GlueTask, split: str, data_dir: Path) -> UserError:
    """The error that lists where a split was looked for and how to get it."""
    if not data_dir.is_dir():
        problem = "is a file" if data_dir.exists() else "does not exist"
        return UserError(
            f"data folder {data_dir} {problem}; name the folder that holds {task.folders[0]}/, or "
            f"download with `gptbert prepare glue/{task.name} --data_dir={data_dir}`"
        )
    folders = list(_task_folders(task, data_dir)) or [data_dir]
    if not any(folder.parent == data_dir for folder in folders):
        folders.insert(0, data_dir / task.folders[0])
    file = task.splits[split].files[0]
    looked = ", ".join(str(folder / file) for folder in folders)
    config, tfds_split = _tfds_names(task, split)[0]
    there = ", ".join(sorted(path.name for path in data_dir.iterdir())[:20]) or "nothing"
    return UserError(
        f"glue/{task.name} {split} not found in {data_dir}: looked for {looked} (also .xz, .gz), "
        f"{data_dir}/glue/{config}/VERSION/ (TensorFlow Datasets, split {tfds_split}) and "
        f"{data_dir}/{config}/{tfds_split}-*.parquet; there is: {there}; "
        f"put GLUE's {task.folders[0]} folder there, or download with "
        f"`gptbert prepare glue/{task.name} --data_dir={data_dir}`"
    )


def _tfds_names(task: GlueTask, split: str) -> list[tuple[str, str]]:
    """(config, split) of TFDS that hold the split, in the order to look for them."""
    name = split.replace("dev", "validation")
    half, _, kind = name.partition("_")
    return [(task.name, name), (f"{task.name}_{kind}", half)] if kind else [(task.name, name)]


def _first_file(task: GlueTask, data_dir: Path, names: tuple[str, ...]) -> Path | None:
    for folder in _task_folders(task, data_dir):
        for name in names:
            for compression in COMPRESSIONS:
                path = folder / (name + compression)
                if path.is_file():
                    return path
    return None


def _task_folders(task: GlueTask, data_dir: Path) -> Iterator[Path]:
    """The task's folders in `data_dir`, then `data_dir` itself unless it is another task's."""
    if not data_dir.is_dir():
        return
    children = {path.name.lower(): path for path in data_dir.iterdir() if path.is_dir()}
    for name in dict.fromkeys([*(folder.lower() for folder in task.folders), task.name]):
        if name in children:
            yield children[name]
    if _owner(data_dir.resolve().name) in (None, task.name):
        yield data_dir


def _owner(folder: str) -> str | None:
    """The task that a folder name belongs to: RTE and WNLI have the same columns."""
    for task in GLUE_TASKS.values():
        if folder.lower() in [task.name, *(name.lower() for name in task.folders)]:
            return task.name
    return None
