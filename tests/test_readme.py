"""What the README says can be run, runs."""

import re
import subprocess
import sys
from pathlib import Path

from gptbert.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_notebook_lines_run_on_real_weights(minilm_dir, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 10
    exec(compile(block.replace('"BERT"', repr(str(minilm_dir))), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "['[CLS]', 'a', 'bird', 'in', 'the', 'hand', '[SEP]'] (7, 384)" in printed
    assert "(2, 384)" in printed


def test_every_command_is_in_the_readme_and_exists():
    table = set(re.findall(r"^\| `gptbert ([\w-]+)`", README, re.MULTILINE))
    assert table == set(COMMANDS)


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_figures_of_the_readme_are_those_of_the_reports():
    command = [sys.executable, ROOT / "experiments" / "readme.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert README.count(" (5) |") >= 5, "no results of five runs are told"


def test_nothing_of_the_package_imports_tensorflow_or_pytorch():
    program = (
        "import pkgutil, importlib, sys, gptbert\n"
        "for m in pkgutil.walk_packages(gptbert.__path__, 'gptbert.'):\n"
        "    if not m.name.endswith('__main__') and '.configs' not in m.name:\n"
        "        importlib.import_module(m.name)\n"
        "found = {'tensorflow', 'torch', 'transformers', 'tokenizers', 'clu'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
