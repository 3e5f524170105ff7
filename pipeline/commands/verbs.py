"""The verbs of the command, each with its module. Nothing else is imported, so `--help` is quick."""

from typing import NamedTuple


class Verb(NamedTuple):
    """A verb of the command.

    Attributes:
      module: has `main(argv)`, which returns the exit code.
      summary: what it does, in a line.
      flags: that come before those of the user.
    """

    module: str
    summary: str
    flags: tuple[str, ...] = ()


_COMMANDS = "pipeline.commands"
VERBS = {
    "run": Verb("pipeline.launch", "turn images into vectors: what the command does without a verb"),
    "quote": Verb("pipeline.launch", "compose the job for Dataflow and say what it costs: --dry_run", ("--dry_run",)),
    "search": Verb(f"{_COMMANDS}.search.search", "find the images that look most like an image"),
    "verify": Verb(f"{_COMMANDS}.verify.verify", "check an output again: files, records, tables"),
    "export": Verb(f"{_COMMANDS}.export.send", "send vectors to pgvector, Lance or Vertex AI, only what is new"),
    "runs": Verb(f"{_COMMANDS}.runs", "show the runs in an output side by side"),
    "finetune": Verb(f"{_COMMANDS}.finetune.run", "train a classifier on labelled images or on their vectors"),
    "stage-model": Verb(f"{_COMMANDS}.stage_model", "copy a model to where workers can read it"),
    "inspect-model": Verb(f"{_COMMANDS}.inspect_model", "show a model's properties, and its speed here"),
    "import-checkpoint": Verb(f"{_COMMANDS}.import_checkpoint", "turn a TF-Slim checkpoint into a SavedModel"),
}


def described() -> str:
    """Returns the verbs in lines for `--help`."""
    return "\n".join(f"  {name:<19}{verb.summary}" for name, verb in VERBS.items())
