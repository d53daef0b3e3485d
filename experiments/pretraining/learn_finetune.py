"""Stage `finetune`: from the pre-trained weights and from random ones, seed by seed."""

from __future__ import annotations

import itertools
import shutil
from typing import Any

from learn_cases import (
    EPOCHS,
    MODELS,
    QUICK_EPOCHS,
    QUICK_SEEDS,
    QUICK_TUNING_FIELDS,
    SEEDS,
    STARTS,
    TUNING_FIELDS,
    TUNINGS,
    shape,
)
from learn_records import Place, append, kept, records, run

KEPT = (
    "task", "split", "metrics", "majority_baseline", "checkpoint", "examples",
    "examples_by_split", "seed", "steps", "train_seconds",
)  # fmt: skip
Key = tuple[int, str, str, str]


def planned(*, quick: bool) -> list[Key]:
    """(seed, task, model, start) of all runs, seed by seed, so that unfinished sets are balanced.

    What is compared runs one after the other.
    """
    seeds, epochs = (QUICK_SEEDS, QUICK_EPOCHS) if quick else (SEEDS, EPOCHS)
    return list(itertools.product(seeds, epochs, TUNINGS, STARTS))


def key(record: dict[str, Any]) -> Key:
    """What a line of the raw results is about."""
    return record["seed"], record["task"], record["model"], record["start"]


def finetune(place: Place) -> None:
    """Makes the runs that are missing."""
    about = place.results / "finetune.jsonl"
    for each in planned(quick=place.quick):
        seed, task, model, start = each
        if model not in place.models or each in {key(record) for record in records(about)}:
            continue
        workdir = place.run("finetune", task, model, start, str(seed))
        config = f"{TUNINGS[model]}:{task}"
        found, seconds = run("finetune", config, _fields(place, each), workdir)
        record = kept(found, KEPT) | {"processor_seconds": seconds}
        append(about, {"model": model, "start": start, **record, "task": task})
        print(*each, found["metrics"], flush=True)
        shutil.rmtree(workdir)


def _fields(place: Place, of: Key) -> dict[str, Any]:
    seed, task, model, start = of
    epochs = (QUICK_EPOCHS if place.quick else EPOCHS)[task]
    given = TUNING_FIELDS | {"seed": seed, "num_epochs": epochs}
    given |= {"data_dir": place.glue_dir, "compute_dtype": place.compute_dtype}
    given |= QUICK_TUNING_FIELDS if place.quick else {}
    if start == "pre-trained":
        return given | {"init_from": place.run("pretrain", model)}
    given |= {"model": shape(MODELS[model], quick=place.quick)}
    return given | {"tokenizer": place.vocabulary(MODELS[model].vocabulary)}
