"""The command's configuration: argv → `EmbedConfig`, with flags checked against each other.

It imports no Beam, so that a wrong flag is reported at once.
"""

import argparse
import dataclasses
import datetime
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.flags import command_lines, flag_types, model_flags, storage_flags
from pipeline.flags.parser import SAMPLES_OUTPUT, build_parser
from pipeline.runners import presets
from transforms.decoders.job import ONE_A_CORE
from transforms.elements.formats import OUTPUT_FORMATS, SHARD_FORMATS, VECTOR_TYPES
from transforms.models.preprocessing import Choices
from transforms.storage.context import Storage

SAMPLES = str(Path(__file__).parents[1] / "samples" / "images" / "*")


@dataclasses.dataclass(frozen=True)
class RunsOn:
    """The user's choices of where the job runs; Beam's options hold the rest. See the help of each flag."""

    preset: str = "local"
    explain: bool = False
    gpu: str | None = None
    gpu_count: int = 1
    gpu_machine_type: str | None = None
    separate_gpu_stage: bool = False


@dataclasses.dataclass(frozen=True)
class DryRun:
    """The format of a dry run, `text` or `json`, and the numbers that its quote rests on."""

    shown_as: str
    images: int | None = None
    image_bytes: int | None = None
    images_per_second: float | None = None
    sample: str | None = None
    prices: str | None = None
    bucket_location: str | None = None


@dataclasses.dataclass(frozen=True)
class EmbedConfig:
    """The command's own flags, checked against each other. See the help of each flag."""

    inputs: tuple[str, ...]
    input_format: str
    model: str
    model_signature: str | None
    model_tags: tuple[str, ...] | None
    model_output: str | None
    output: str | None
    output_table: str | None
    run_id: str
    is_named: bool
    overwrite: bool
    resume: bool
    checkpoint_seconds: float
    reprocess: bool
    retry_failed: bool
    prune: bool
    max_pruned: float
    make_latest: bool
    batch_size: int
    precision: str
    preprocessing: Choices
    normalize: bool
    max_pixels: int
    max_failure_rate: float | None
    top_classes: int
    read_concurrency: int
    decode_processes: int
    decode_timeout: float
    storage: Storage
    verbose: bool
    started_at: datetime.datetime
    output_formats: tuple[str, ...]
    vector_type: str
    runs_on: RunsOn
    dry_run: DryRun | None
    writes_page: bool
    include_hidden: bool
    uri_column: str | None
    argv: tuple[str, ...]
    program: tuple[str, ...]

    @property
    def record_type(self) -> str:
        """The type of vectors in the TFRecords, which `schema.pbtxt` describes."""
        return self.vector_type if "tfrecord" in self.output_formats else VECTOR_TYPES[0]

    @property
    def reads_ledger(self) -> bool:
        """Whether this run asks which images earlier runs have embedded. It cannot ask about images in shards."""
        return self.input_format not in SHARD_FORMATS and (self.prune or not self.reprocess)


def parse(argv: Sequence[str]) -> tuple[EmbedConfig, list[str]]:
    """Parses a command line.

    Returns:
      The configuration, and the arguments that are not this project's. Those are Beam's, or unknown.

    Raises:
      ValueError: if a flag is wrong; one line says what was expected.
      SystemExit: after `--help`.
    """
    args, beam_args = build_parser().parse_known_args(argv)
    inputs, output = _places(args)
    _check_together(args)
    derived = {
        "inputs": inputs,
        "output": output,
        "run_id": args.run_id or _new_run_id(),
        "is_named": bool(args.run_id),
        "resume": not args.no_resume,
        # With --overwrite, the run must also embed the images that other runs have put into the table meanwhile.
        "reprocess": args.reprocess or (args.overwrite and bool(args.output_table)),
        "batch_size": args.batch_size or presets.batch_size(args.preset),
        "preprocessing": model_flags.choices(args),
        # What failed before may well fail again.
        "max_failure_rate": 1.0 if args.retry_failed and args.max_failure_rate is None else args.max_failure_rate,
        "decode_processes": _decode_processes(args),
        "storage": storage_flags.storage(args),
        "started_at": datetime.datetime.now(datetime.UTC),
        "output_formats": args.output_format,
        "runs_on": RunsOn(**_named_as_in(RunsOn, args)),
        "dry_run": _dry_run(args),
        "writes_page": not args.no_html,
        "argv": tuple(argv),
        "program": command_lines.program(),
    }
    return EmbedConfig(**(_named_as_in(EmbedConfig, args) | derived)), beam_args


def _places(args: argparse.Namespace) -> tuple[tuple[str, ...], str | None]:
    """Returns the patterns of the input and the output, both valid in any working directory."""
    if not args.output and not args.output_table:
        if args.input or args.retry_failed:
            raise ValueError("nowhere to write: give --output DIR or --output_table PROJECT:DATASET.TABLE")
        args.output = SAMPLES_OUTPUT
    if args.output and re.search(r"[*?\[]", args.output):
        raise ValueError(f"--output {args.output!r}: expected a directory, without the wildcards * ? [")
    output = flag_types.absolute(args.output) if args.output else None
    inputs = tuple(flag_types.pattern(text) for text in args.input or ([] if args.retry_failed else [SAMPLES]))
    if output and not _is_utf8(output):
        raise ValueError(f"--output {output!r}: expected a path in UTF-8")
    if strange := [pattern for pattern in inputs if not _is_utf8(pattern)]:
        raise ValueError(f"--input {strange[0]!r}: expected a pattern in UTF-8, with ? for any other byte")
    return inputs, output


def _named_as_in(dataclass: type, args: argparse.Namespace) -> dict[str, Any]:
    """Returns the values of the flags that have the name of a field."""
    return {field.name: getattr(args, field.name) for field in dataclasses.fields(dataclass) if field.name in args}


def _is_utf8(text: str) -> bool:
    """Returns whether all bytes of a text are UTF-8. Python turns other bytes into lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decode_processes(args: argparse.Namespace) -> int:
    if args.decode_processes is not None:
        return int(args.decode_processes)
    processes = presets.decode_processes(args.preset)
    return ONE_A_CORE if processes == presets.CORES else int(processes)


def _dry_run(args: argparse.Namespace) -> DryRun | None:
    quote = _named_as_in(DryRun, args)
    if args.dry_run:
        return DryRun(args.dry_run, **quote)
    if stray := [name for name, value in quote.items() if value is not None]:
        raise ValueError(f"--{stray[0]} applies to a quote: give --dry_run too")
    return None


def _check_together(args: argparse.Namespace) -> None:
    """Raises ValueError if flags contradict each other."""
    for flag, is_set in (("prune", args.prune), ("make_latest", args.make_latest)):
        if is_set and not args.output_table:
            raise ValueError(f"--{flag} applies to a table: give --output_table PROJECT:DATASET.TABLE too")
    if args.output_format != OUTPUT_FORMATS[:1] and not args.output:
        raise ValueError("--output_format applies to files: give --output DIR too")
    if args.vector_type != VECTOR_TYPES[0] and not args.output:
        raise ValueError("--vector_type applies to files: give --output DIR too")
    if args.uri_column and args.input_format != "list":
        raise ValueError("--uri_column applies to lists: give --input_format list too")
    if args.prune and (args.input_format != "images" or args.retry_failed):
        raise ValueError(
            "--prune needs a complete listing of the images: expected --input_format images, without --retry_failed"
        )
    if args.retry_failed and (args.input_format != "images" or args.reprocess):
        raise ValueError(
            "--retry_failed takes its images from earlier runs: expected no --input_format and no --reprocess"
        )
    if args.preset != "dataflow-gpu":
        for flag, is_set in (
            ("gpu", args.gpu),
            ("gpu_count", args.gpu_count != 1),
            ("gpu_machine_type", args.gpu_machine_type),
            ("separate_gpu_stage", args.separate_gpu_stage),
        ):
            if is_set:
                raise ValueError(
                    f"--{flag} applies to Dataflow's GPU workers: give --preset dataflow-gpu too. On other "
                    "runners, TensorFlow uses a worker's GPUs without this flag"
                )


def _new_run_id() -> str:
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(6)}"
