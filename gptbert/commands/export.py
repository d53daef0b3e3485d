"""`gptbert export`: weights out, for everyone who loads Hugging Face folders."""

from __future__ import annotations

from gptbert.commands.arguments import (
    Parser,
    add_model_flags,
    local_path,
    model_folder,
    tell_unfinished,
)
from gptbert.errors import UserError

HELP = "write weights as a Hugging Face folder"

_EPILOG = """\
The folder has config.json, model.safetensors, the tokenizer's files and a model card (README.md);
`transformers` loads it with the names of the classes.

examples:
  gptbert export --workdir=runs/mrpc --output=bert-mrpc
  gptbert export --init_from=DIR --output=copy
"""


def main(arguments: list[str]) -> int:
    """Writes the folder; returns the exit code.

    Raises:
      UserError: Weights that cannot be read or exported, an output folder that is in use.
    """
    parser = Parser("export", HELP, _EPILOG)
    add_model_flags(parser)
    parser.add_argument("--output", type=local_path, metavar="DIR", help="a new or empty folder")
    flags = parser.parse(arguments)
    folder = model_folder(flags)
    if flags.output is None:
        raise UserError("no place to write to: expected --output=DIR, a new or empty folder")
    from gptbert.runs.export import export, metrics_at

    source = export(folder, flags.output, flags.step)
    tell_unfinished(source)
    which = "" if source.step is None else f", step {source.step}"
    head = "no classifier"
    if source.outputs:
        named = ", ".join(source.classes) or f"{source.outputs} outputs without names"
        head = "a score" if source.is_regression else f"classes: {named}"
    print(f"exported {folder}{which} to {flags.output} ({head})")
    if all(path.startswith("bert/") for path in source.parameters):
        print("no pooler: AutoModel needs add_pooling_layer=False, as README.md there has it")
    for tensor in source.ignored:
        print(f"not exported: {tensor}")
    if source.step is not None and not metrics_at(source):
        print("the model card has no figures: the run measured nothing at this step")
    return 0
