"""The report of the pre-training speed experiment, from its raw results alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from finetune import SAME_PRODUCTS, comes_after
from pretrain_cases import case_of, products

from gptbert.reports.tables import markdown_table

WHAT = {
    "gptbert": "gptbert",
    "gptbert bfloat16": "gptbert, bfloat16 products",
    "gptbert all": "gptbert, every position projected",
    "eager": "transformers, eager float32",
    "eager gathered": "transformers, eager float32, only masked positions projected",
    "compiled": "transformers, torch.compile, float32",
    "autocast": "transformers, eager, bfloat16 autocast",
}
# Since this commit the last layer is computed only where it is read, and no parameter is copied.
SPARES_WORK = "a6fbe7c314f5275ba10e837fcfaef9776d09132b"
# Since this commit GPT-2 drops entries of the embeddings' sum; before it was those of the tables.
DROPS_THE_SUM = "ddb9bbfd4bdcec8f1fd3148b161eeb8854334f02"
# (model, slower, faster) -> how many times faster it shall be, and in which words that is said.
TARGETS = {
    ("minilm-l6-h384", "eager", "gptbert"): 2.4,
    ("minilm-l6-h384", "eager", "gptbert all"): 1.5,
    ("minilm-l6-h384", "eager gathered", "gptbert"): 1.5,
    ("minilm-l6-h384", "compiled", "gptbert"): 1.4,
    ("minilm-l6-h384", "autocast", "gptbert"): 1.0,
    ("bert-base", "eager", "gptbert"): 1.5,
    ("bert-base", "eager", "gptbert all"): 1.33,
    ("bert-base", "eager gathered", "gptbert"): 1.33,
    ("gpt2-124m", "eager", "gptbert"): 1.45,
}
PAIRS = (
    ("eager", "gptbert"),
    ("eager", "gptbert all"),
    ("eager gathered", "gptbert"),
    ("compiled", "gptbert"),
    ("autocast", "gptbert"),
    ("autocast", "gptbert bfloat16"),
)


class Results:
    """The blocks of one model and dropout."""

    def __init__(self, model: str, dropout: float, found: list[dict]) -> None:
        self.model, self.dropout = model, dropout
        self._found = [r for r in found if (r["model"], r["dropout"]) == (model, dropout)]

    def of(self, kind: str) -> list[dict]:
        """The blocks of one contestant."""
        return [r for r in self._found if r["contestant"] == kind]

    def seconds(self, kind: str) -> list[float]:
        """All its steps."""
        return [s for r in self.of(kind) for s in r["seconds"]]

    def median(self, kind: str) -> float:
        """Of all its steps; NaN if it took none."""
        return statistics.median(self.seconds(kind) or [math.nan])

    def ratio(self, slower: str, faster: str) -> float:
        """Of the medians over the blocks that both took part in; NaN if there are none."""
        shared = self._blocks(slower) & self._blocks(faster)
        medians = (
            statistics.median(
                [
                    s
                    for r in self.of(kind)
                    if (r["group"], r["block"]) in shared
                    for s in r["seconds"]
                ]
                or [math.nan]
            )
            for kind in (slower, faster)
        )
        return next(medians) / next(medians)

    def _blocks(self, kind: str) -> set[tuple[int, int]]:
        return {(r["group"], r["block"]) for r in self.of(kind)}

    def block_ratios(self, slower: str, faster: str) -> list[float]:
        """The same within each block that both took part in."""
        by_block = {
            (r["group"], r["block"]): statistics.median(r["seconds"]) for r in self.of(faster)
        }
        return [
            statistics.median(r["seconds"]) / by_block[r["group"], r["block"]]
            for r in self.of(slower)
            if (r["group"], r["block"]) in by_block
        ]

    def products(self, framework: str, every_position: bool) -> tuple[float, float]:
        """Seconds and FLOP of a step's matrix products alone; NaN if they were not timed."""
        if not self.of(f"products {framework}"):
            return math.nan, math.nan
        times = self.product_times(framework)
        counted = [
            (p, p.count_all if every_position else p.count) for p in products(case_of(self.model))
        ]
        seconds = sum(count * times[p.name] for p, count in counted if count)
        return seconds, sum(count * p.flops for p, count in counted)

    def product_times(self, framework: str) -> dict[str, float]:
        """Median seconds of each product."""
        found = self.of(f"products {framework}")
        return {
            name: statistics.median(s for r in found for s in r["products"][name])
            for name in (found[0]["products"] if found else ())
        }


def is_superseded(record: dict) -> bool:
    """Whether a block was timed with a step that is another one now."""
    commit = str(record["about"]["git_commit"]).split("+")[0]
    drops = record["model"] == "gpt2-124m" and record["dropout"] > 0
    is_step = not record["contestant"].startswith("products")
    return not comes_after(commit, SPARES_WORK) or (
        drops and is_step and not comes_after(commit, DROPS_THE_SUM)
    )


def unit_of(record: dict) -> tuple[str, str, float]:
    """What a record was timed of: machine, model, dropout."""
    return record["about"]["hardware"], record["model"], record["dropout"]


def report(found: list[dict]) -> str:
    """All tables, in Markdown, machine by machine; without the blocks that are superseded."""
    found = [r for r in found if not is_superseded(r)]
    lines = [
        "# Pre-training speed on a CPU",
        "",
        "Generated by `python experiments/speed/pretrain.py report` from the raw results.",
        "A step goes from the host's batch to the updated state (clipping, optimizer, loss read),",
        "with the same shapes and random tokens on both sides. gptbert is the update that",
        "`gptbert pretrain` compiles, set up by the package alone. Unless a line says otherwise,",
        "gptbert projects only the masked positions of BERT on the vocabulary, and computes only",
        "them and [CLS] in the last layer after its keys and values, where `transformers` computes",
        "all: that part of a ratio is less work, and is told apart below.",
        "Ratios are of medians over the steps of those blocks that both took part in, with the",
        "lowest and highest ratio within a block.",
        "*Less work* is what this gives, measured in gptbert, or in PyTorch, where the projection",
        "alone is spared (the last layer's share is then in *same work*); *same work* is what is",
        "left between both sides. The whole ratio (eager / gptbert) would be the product of both",
        "had all taken part in the same blocks; where they did not, it is so only roughly.",
        "No GPU and no TPU was at hand: none is timed.",
        "",
    ]
    for machine in sorted({r["about"]["hardware"] for r in found}):
        lines += _machine(machine, [r for r in found if r["about"]["hardware"] == machine])
    return "\n".join(lines)


def _machine(name: str, found: list[dict]) -> list[str]:
    """The tables of one machine."""
    units = list(dict.fromkeys((r["model"], r["dropout"]) for r in found))
    results = [Results(model, dropout, found) for model, dropout in units]
    lines = [
        f"## {name}", "", *_origin(found), "", *_other_products(found),
        "### Against the targets", "", _target_table(results), "",
        "### Less work, or faster work", "", _work_table(results), "",
    ]  # fmt: skip
    for each in results:
        lines += [f"### {_title(each)}", "", _step_table(each), "", *_limits(each), ""]
    return [*lines, "### Matrix products alone", "", _product_table(results), ""]


def _other_products(found: list[dict]) -> list[str]:
    """Which of gptbert's steps were timed before float32 was multiplied by XLA itself."""
    old = {
        (r["model"], f"dropout {r['dropout']:g}"): None
        for r in found
        if r["contestant"] in ("gptbert", "gptbert all")
        and not comes_after(str(r["about"]["git_commit"]).split("+")[0], SAME_PRODUCTS)
    }
    if not old:
        return []
    told = "; ".join(", ".join(each) for each in old)
    return [f"Of these gptbert's steps were timed with products by another library: {told}.", ""]


def _title(results: Results) -> str:
    case = case_of(results.model)
    return f"{results.model}, {case.rows} x {case.positions}, dropout {results.dropout:g}"


def _target_table(every: list[Results]) -> str:
    rows = []
    for each in every:
        for slower, faster in PAIRS:
            if not (each.of(slower) and each.of(faster)):
                continue
            ratio, target = each.ratio(slower, faster), TARGETS.get((each.model, slower, faster))
            spread = each.block_ratios(slower, faster)
            met = "" if target is None else ("yes" if ratio >= target else "no")
            rows.append([
                each.model, f"{each.dropout:g}", f"{WHAT[slower]} / {WHAT[faster]}",
                f"{ratio:.2f}", f"({min(spread):.2f} to {max(spread):.2f})",
                f"{target:g}" if target else "", met,
            ])  # fmt: skip
    return markdown_table(
        rows, ["model", "dropout", "ratio of", "times", "by block", "target", "met"]
    )


def _work_table(every: list[Results]) -> str:
    rows = []
    for each in every:
        if not each.of("eager gathered") or not each.of("gptbert all"):
            continue
        whole = each.ratio("eager", "gptbert")
        for told, less, same in (
            ("PyTorch", ("eager", "eager gathered"), ("eager gathered", "gptbert")),
            ("gptbert", ("gptbert all", "gptbert"), ("eager", "gptbert all")),
        ):
            rows.append([
                each.model, f"{each.dropout:g}", told, f"{each.ratio(*less):.2f}",
                f"{each.ratio(*same):.2f}", f"{whole:.2f}",
            ])  # fmt: skip
    header = ["model", "dropout", "less work measured in", "less work", "same work", "whole ratio"]
    return markdown_table(rows, header)


def _step_table(results: Results) -> str:
    rows = []
    for kind, what in WHAT.items():
        found, seconds = results.of(kind), results.seconds(kind)
        if not found:
            continue
        steps = len(seconds)
        about = found[-1]["about"]
        rows.append([
            what, f"{statistics.median(seconds):.3f}", f"{min(seconds):.3f}",
            f"{results.ratio(kind, 'gptbert'):.2f}",
            f"{found[0]['tokens_a_step'] / statistics.median(seconds):.0f}",
            f"{max(r['max_rss_kib'] for r in found) / 1024:.0f}",
            *(f"{sum(r[name] for r in found) / steps:{form}}" for name, form in (
                ("user_seconds", ".2f"), ("system_seconds", ".2f"), ("minor_faults", ".0f"))),
            str(steps), f"{about.get('compile_seconds', about['first_step_seconds']):.0f}",
        ])  # fmt: skip
    return markdown_table(
        rows,
        ["contestant", "s a step (median)", "fastest", "times gptbert", "tokens/s", "peak MiB",
         "user s", "system s", "page faults a step", "steps", "first step or compilation s"],
    )  # fmt: skip


def _limits(results: Results) -> Iterable[str]:
    """What the matrix products leave to be gained, in numbers."""
    if not (results.of("products xla") and results.of("products torch")):
        return
    step, eager = results.median("gptbert"), results.median("eager")
    xla, flops = results.products("xla", every_position=False)
    torch, _ = results.products("torch", every_position=False)
    xla_all, all_flops = results.products("xla", every_position=True)
    torch_all, _ = results.products("torch", every_position=True)
    yield (
        f"What limits it: the step's matrix products are {flops / 1e9:.0f} GFLOP. Executed one by "
        f"one with nothing between them they take XLA {xla:.3f} s ({flops / xla / 1e9:.0f} GFLOP/s)"
        f", that is {xla / step:.0%} of gptbert's step, and PyTorch {torch:.3f} s "
        f"({flops / torch / 1e9:.0f} GFLOP/s). A step of nothing but these products in XLA would "
        f"be {eager / xla:.2f} times faster than eager PyTorch's."
    )
    if results.of("gptbert all"):
        all_step = results.median("gptbert all")
        yield ""
        yield (
            f"With every position projected: {all_flops / 1e9:.0f} GFLOP, XLA {xla_all:.3f} s "
            f"({xla_all / all_step:.0%} of that step), PyTorch {torch_all:.3f} s "
            f"({torch_all / eager:.0%} of the eager step); the ceiling at equal projections is "
            f"{eager / xla_all:.2f} times."
        )


def _product_table(every: list[Results]) -> str:
    rows = []
    seen = set()
    for each in every:
        if each.model in seen or not each.of("products xla") or not each.of("products torch"):
            continue
        seen.add(each.model)
        xla, torch = each.product_times("xla"), each.product_times("torch")
        for p in products(case_of(each.model)):
            shape = f"{p.m} x {p.k} x {p.n}" + (f", {p.batch} of them" if p.batch > 1 else "")
            one = p.flops / 1e9
            rows.append([
                each.model, p.name, shape, str(p.count), str(p.count_all),
                f"{xla[p.name] * 1e3:.2f}",
                f"{one / xla[p.name]:.0f}", f"{torch[p.name] * 1e3:.2f}",
                f"{one / torch[p.name]:.0f}",
            ])  # fmt: skip
    return markdown_table(
        rows,
        ["model", "product", "m x k x n", "a step", "projecting all", "XLA ms", "XLA GFLOP/s",
         "PyTorch ms", "PyTorch GFLOP/s"],
    )  # fmt: skip


def _origin(found: list[dict]) -> list[str]:
    """Instructions, versions, commits, seeds."""
    about = [record["about"] for record in found]
    versions: dict[str, str] = {}
    for each in about:
        versions |= each.get("versions", {})
    by = sorted({each["products"] for each in about if "products" in each})
    instructions = sorted({each["instructions"] for each in about if "instructions" in each})
    return [
        f"PyTorch's kernels: {', '.join(instructions)}. gptbert's products: {'; '.join(by)}.",
        f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}.",
        f"Commits: {', '.join(sorted({str(each['git_commit']) for each in about}))}. "
        f"Seeds: {', '.join(sorted({str(each['seed']) for each in about}))}.",
    ]
