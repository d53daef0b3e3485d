"""What came of preparing a corpus: `report.json` and the summary that is printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gptbert.corpora.merge import COUNTS, Totals
from gptbert.corpora.rejects import RejectList
from gptbert.corpora.units import Tally
from gptbert.pipeline.store_format import SPLITS

MANY_UNKNOWN = 0.02


def build_report(
    totals: Totals, rejected: RejectList, tokenizer: dict[str, Any], inputs: dict[str, int]
) -> dict[str, Any]:
    """The report of a store, without what differs from run to run (times, workers)."""
    unknown, tokens = (sum(kept[k] for kept in totals.kept.values()) for k in ("unknown", "tokens"))
    length, name = totals.longest
    return {
        "tokenizer": tokenizer,
        "inputs": inputs,
        **totals.kept,
        "unknown_tokens": unknown,
        "unknown_rate": unknown / max(1, tokens),
        "longest_document": {"tokens": length, "name": name},
        "duplicates": {"documents": totals.duplicates, "bytes": totals.duplicate_bytes},
        "rejects": _told(totals.rejects),
        "rejected": {"files": rejected.files, "listed_in": rejected.names},
        "notes": _told(totals.notes),
    }


def summary(report: dict[str, Any], path: str) -> str:
    """The report for a terminal."""
    return "\n".join(_lines(report, path))


def _told(tally: Tally) -> dict[str, Any]:
    return {
        kind: {"count": count, "first": tally.first[kind]} for kind, count in tally.counts.items()
    }


def _lines(report: dict[str, Any], path: str) -> Iterator[str]:
    made, longest, repeated = (
        report[name] for name in ("tokenizer", "longest_document", "duplicates")
    )
    yield f"{path}: ids of {made['kind']} with {made['vocabulary_size']:,} entries"
    yield f"  {'':<10}{'train':>16}{'held out':>16}"
    for name in COUNTS:
        yield f"  {name:<10}" + "".join(f"{report[split][name]:>16,}" for split in SPLITS)
    yield (
        f"  unknown tokens: {report['unknown_tokens']:,} ({report['unknown_rate']:.3%}); "
        f"longest document: {longest['tokens']:,} tokens ({longest['name']})"
    )
    yield f"  exact duplicates dropped: {repeated['documents']:,} ({repeated['bytes']:,} bytes)"
    yield from _counted("not read", report["rejects"])
    if listed := report.get("rejected", {}).get("listed_in"):
        yield f"    each file with its reason: {', '.join(f'{path}/{name}' for name in listed)}"
    yield from _counted("noted", report["notes"])
    yield from _warnings(report)
    if "run" in report:
        run = report["run"]
        yield (
            f"  {report['inputs']['bytes'] / 1e6:,.1f} MB in {report['inputs']['sources']:,} "
            f"sources; {run['text_bytes'] / 1e6:,.1f} MB of text in {run['seconds']:,.1f} s with "
            f"{run['workers']} workers: {run['megabytes_per_second']:.2f} MB/s"
        )


def _counted(title: str, told: dict[str, Any]) -> Iterator[str]:
    total = sum(each["count"] for each in told.values())
    yield f"  {title}: {total:,}"
    for kind, each in sorted(told.items(), key=lambda item: -item[1]["count"]):
        yield f"    {each['count']:>8,}  {kind}, for instance {each['first'][0]}"


def _warnings(report: dict[str, Any]) -> Iterator[str]:
    if report["unknown_rate"] > MANY_UNKNOWN:
        yield (
            f"  warning: {report['unknown_rate']:.1%} of the tokens are unknown; is this "
            "vocabulary made for this text? (`gptbert train-vocabulary` makes one from it)"
        )
    if not report["heldout"]["documents"]:
        yield "  warning: no document is held out, so pre-training cannot be evaluated (--held_out)"
