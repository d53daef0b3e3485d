"""Fabricated files of GLUE's official form, one small folder for all tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

PARSES = ["( a )", "( b )", "(ROOT a)", "(ROOT b)"]
MNLI = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
    "sentence1_parse\tsentence2_parse\tsentence1\tsentence2"
)
MNLI_DEV = MNLI + "\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label"
STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"


def _mnli(index: int, first: str, second: str, *labels: str) -> str:
    return "\t".join([str(index), "1", "1n", "fiction", *PARSES, first, second, *labels])


FILES = {
    "CoLA/train.tsv": "gj04\t1\t\tA fine sentence.\ngj04\t0\t*\tSentence a fine.\n",
    # The official file has no line end after its last line.
    "CoLA/dev.tsv": "gj04\t1\t\tIt works.\ngj04\t0\t*\tWorks it it.",
    "CoLA/test.tsv": "index\tsentence\n0\tBill left.\n1\tLeft Bill did.\n",
    "MRPC/train.tsv": (
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
        '1\t11\t12\the said " the\tshe said " the " too\n0\t13\t14\ta " b\tc\n'
    ),
    "MRPC/test.tsv": "index\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n0\t1\t2\tone\ttwo\r\n",
    "STS-B/train.tsv": (f"{STSB}\tscore\n0\tnews\tf\t2012\t1\tnone\tnone\tA dog.\tA cat.\t3.800\n"),
    "STS-B/test.tsv": f"{STSB}\n0\tnews\tf\t2012\t1\tnone\tnone\tA dog.\tA cat.\n",
    "QQP/train.tsv": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
        '133273\t1\t2\tWhat is "this?\tWhat is it?\t1\n'
        "402555\t3\t4\tHow?\n"
        "402556\t5\t6\tWhy?\tWhen?\t\n"
        "360472\t7\t8\t\tWho?\t0\n"
    ),
    "QQP/test.tsv": "id\tquestion1\tquestion2\n0\tWho?\tWhat?\n1\tWhy?\tHow?\n",
    "MNLI/train.tsv": (
        f"{MNLI}\tlabel1\tgold_label\n{_mnli(0, 'p', 'h', 'entailment', 'neutral')}\n"
    ),
    "MNLI/dev_matched.tsv": (
        f"{MNLI_DEV}\n{_mnli(0, 'm', 'h', *['neutral'] * 5, 'contradiction')}\n"
    ),
    "MNLI/dev_mismatched.tsv": f"{MNLI_DEV}\n{_mnli(0, 'mm', 'h', *['neutral'] * 5, 'neutral')}\n",
    "MNLI/test_matched.tsv": f"{MNLI}\n{_mnli(0, 'tm', 'h')}\n",
    "MNLI/test_mismatched.tsv": f"{MNLI}\n{_mnli(0, 'tmm', 'h')}\n",
    "QNLIv2/train.tsv": (
        "index\tquestion\tsentence\tlabel\n"
        '0\tWho left?\t"Bill left.\tentailment\n1\tWho came?\tBill left.\tnot_entailment\n'
    ),
    "RTE/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tA b.\tA.\tentailment\n",
    "WNLI/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tA b.\tA.\t1\n1\tA b.\tB.\t0\n",
    "SST-2/train.tsv": "sentence\tlabel\nfine work \t1\npoor work \t0\n",
    "diagnostic/diagnostic.tsv": "index\tsentence1\tsentence2\n0\tThe cat sat.\tThe cat stood.",
    "diagnostic/diagnostic-full.tsv": (
        "Lexical Semantics\tPredicate-Argument Structure\tLogic\tKnowledge\tDomain\tPremise\t"
        "Hypothesis\tLabel\r\n\t\tNegation\t\tArtificial\tThe cat sat.\tThe cat stood."
        "\tcontradiction\r\n"
    ),
}


@pytest.fixture
def glue_root(tmp_path: Path) -> Path:
    """A folder with a few rows of every task, in the official form."""
    root = tmp_path / "glue_data"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode())
    return root
