"""Stage `adapt`: a released BERT goes on learning on books, beside the same shape from nothing.

The packaged weights were trained to embed sentences and have no head that predicts words. Here it
is drawn anew, so that a part of what the loss falls is the new head learning its trade; the second
arm, the same shape and head from random weights with the same steps, shows what falls in any case.
"""

from __future__ import annotations

from learn_cases import STANDSTILL, STARTS, adaptation_fields
from learn_prepare import BOOKS, HELD_OUT
from learn_pretrain import KEPT, training_curve
from learn_records import Place, append, kept, records, run

CONFIG = "configs/bert.py:base"  # its shape is replaced by that of the weights


def adapt(place: Place) -> None:
    """Makes the runs that are missing: each arm scored, trained, scored."""
    about = place.results / "adapt.jsonl"
    for start in STARTS:
        if any(r["start"] == start for r in records(about)):
            continue
        fields = adaptation_fields(quick=place.quick) | {
            "corpus": place.store(BOOKS),
            "held_out_corpus": place.store(BOOKS, HELD_OUT),
            "compute_dtype": place.compute_dtype,
            "init_from": place.weights if start == "pre-trained" else "",
        }
        before, _ = run("pretrain", CONFIG, fields | STANDSTILL, place.run("before", start))
        workdir = place.run("adapt", start)
        found, seconds = run("pretrain", CONFIG, fields, workdir)
        append(about, {"start": start, "before": before["metrics"], **kept(found, KEPT),
                       "processor_seconds": seconds, "curve": training_curve(workdir)})  # fmt: skip
        print(start, before["metrics"], found["metrics"], flush=True)
