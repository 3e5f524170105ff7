"""The command that reads the output of runs again, and lists what is wrong with it: flags → findings → exit code."""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.commands import frame
from pipeline.flags import flag_types, storage_flags
from pipeline.flags.argument_parser import Parser
from transforms.elements.formats import INPUT_FORMATS
from transforms.elements.one_line import one_line
from transforms.elements.run_id import check_run_id
from transforms.storage.context import DEFAULT_STORAGE, Storage

if TYPE_CHECKING:
    from pipeline.commands.listed_images import ListedImages
    from pipeline.commands.verify.findings import Findings
    from pipeline.commands.verify.output_files import OutputFiles
    from pipeline.commands.verify.record_file import Columns, Record

_EXAMPLES = """\
  # all runs in a directory: records, failures, reports
  python -m pipeline verify --output vectors

  # a nightly run, its rows, and that no image of the bucket is lost; 100 images are embedded again
  python -m pipeline verify --output gs://bucket/vectors --output_table project:dataset.images \\
      --input 'gs://bucket/photos/**' --sample 100 --json

exit code: 0 nothing is wrong; 1 something is, and is listed; 2 a flag is wrong, or there is no run.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return frame.run(_parser(), argv, _work)


def _parser() -> Parser:
    parser = frame.parser("verify", "Reads the output of runs again, and lists what is wrong with it.", _EXAMPLES)
    parser.add_argument("--output", metavar="DIR", help="the directory that runs wrote to, local or in a bucket")
    parser.add_argument(
        "--output_table",
        metavar="PROJECT:DATASET.TABLE",
        type=flag_types.table,
        help="check the rows of the runs in this table against their reports too",
    )
    parser.add_argument("--run_id", metavar="NAME", help="check one run (default: every run in the output)")
    parser.add_argument(
        "--input",
        action="append",
        metavar="PATTERN",
        help="check that every image that is listed has a record or a failure; as --input of a run",
    )
    parser.add_argument(
        "--input_format",
        choices=INPUT_FORMATS,
        default="images",
        help="format of the files that --input matches (default: %(default)s)",
    )
    parser.add_argument("--include_hidden", action="store_true", help="with --input, as of a run")
    parser.add_argument("--uri_column", metavar="NAME", help="with --input_format list, as of a run")
    parser.add_argument(
        "--sample",
        type=flag_types.positive,
        default=0,
        metavar="N",
        help="read, decode and embed N images again, and compare them with their records. Images in shards need "
        "--input and --input_format (default: none)",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    storage_flags.add(parser)
    return parser


def _work(args: argparse.Namespace) -> tuple[str, int]:
    if not args.output and not args.output_table:
        raise ValueError("nothing to verify: give --output DIR or --output_table PROJECT:DATASET.TABLE")
    for flag, is_set in (("input", args.input), ("sample", args.sample)):
        if is_set and not args.output:
            raise ValueError(f"--{flag} is compared with records: give --output DIR too")
    if args.input_format != "images" and not args.input:
        raise ValueError(f"--input_format {args.input_format} applies to --input: give it too")
    if args.output and re.search(r"[*?\[]", args.output):
        raise ValueError(f"--output {args.output!r}: expected a directory, without the wildcards * ? [")
    if args.run_id is not None:
        try:
            check_run_id(args.run_id)
        except ValueError as error:
            raise ValueError(f"--run_id {error}") from error
    findings = verify(
        flag_types.absolute(args.output) if args.output else None,
        table=args.output_table,
        run_id=args.run_id,
        listed=_listed(args) if args.input else None,
        sample_size=args.sample,
        storage=storage_flags.storage(args),
    )
    text = json.dumps(findings.document(), indent=2) if args.json else findings.text()
    return text, frame.FAILED if findings.total else frame.DONE


def _listed(args: argparse.Namespace) -> "ListedImages":
    from pipeline.commands.listed_images import ListedImages

    patterns = [flag_types.pattern(text) for text in args.input]
    return ListedImages(patterns, args.input_format, storage_flags.storage(args), args.include_hidden, args.uri_column)


def verify(
    output: str | None,
    *,
    table: str | None = None,
    run_id: str | None = None,
    listed: "ListedImages | None" = None,
    sample_size: int = 0,
    storage: Storage = DEFAULT_STORAGE,
) -> "Findings":
    """Returns the findings about one run, or all runs, of an output; the arguments are as the flags.

    Raises:
      ValueError: if there is no run, or the images of --input cannot be listed.
      OSError: if the output cannot be listed.
    """
    from pipeline.commands.verify.findings import Findings

    findings = Findings()
    reports: Mapping[str, Mapping[str, Any]] = {}
    if output:
        reports = _check_files(output, run_id, listed, sample_size, storage, findings)
    if table:
        from pipeline.commands.verify import table_rows

        if not output:
            reports = table_rows.reports(table, run_id, findings)
            if not reports and not findings.total:
                raise ValueError(f"--output_table {table!r} has no run{f' {run_id!r}' if run_id else ''}")
        for checked_id, report in reports.items():
            table_rows.check(table, checked_id, report, findings)
    return findings


def _check_files(
    directory: str,
    run_id: str | None,
    listed: "ListedImages | None",
    sample_size: int,
    storage: Storage,
    findings: "Findings",
) -> dict[str, Mapping[str, Any]]:
    """Checks the files of an output, and returns run id → report of the runs that have a usable one."""
    from pipeline.commands.verify import equal_bytes, file_names, input_images, run_checks
    from pipeline.commands.verify import sample as samples
    from pipeline.commands.verify.findings import counted
    from pipeline.commands.verify.identities import ContentVectors
    from pipeline.commands.verify.run_files import RunFiles

    output = _opened(directory)
    with findings.check(f"{counted(len(output.names), 'file')} in the output, each of a run"):
        run_ids = file_names.complete_runs(output.names, findings)
    columns = _columns(output, bool(run_ids), findings)
    contents, recorded, sample = ContentVectors(), input_images.Recorded(), samples.Sample(sample_size)

    def take(record: "Record") -> None:
        equal_bytes.add(contents, record)
        sample.offer(record)
        if listed is not None:
            recorded.add(record)

    chosen = run_ids if run_id is None else {run_id}
    runs = [run_checks.check(RunFiles(output, name, columns), take, findings) for name in sorted(chosen)]
    runs.sort(key=lambda run: run.files.report["started_at"] if run.files.report else "")
    equal_bytes.check([run.files for run in runs], contents, findings)
    if listed is not None and runs:
        digests = {run.files.model_digest for run in runs}
        for name in run_ids - chosen:
            for record in RunFiles(output, name, columns).records():
                if record.model_digest in digests:
                    recorded.add(record)
        input_images.check(listed, runs, recorded, findings)
    reports = {run.files.run_id: run.files.report for run in runs if run.files.report}
    if sample_size:
        models = {run.files.model_digest: run.files.report["model"] for run in runs if run.files.report}
        in_shards = listed if listed is not None and listed.are_in_shards else None
        samples.check(sample, models, in_shards, storage, findings)
    return reports


def _opened(directory: str) -> "OutputFiles":
    from pipeline.commands.verify.output_files import OutputFiles

    try:
        output = OutputFiles(directory)
    except (OSError, ValueError) as error:
        raise ValueError(f"--output {directory!r} cannot be listed: {one_line(error)}") from error
    if not output.names:
        raise ValueError(f"--output {directory!r} has no run: expected a directory that runs wrote to")
    return output


def _columns(output: "OutputFiles", has_runs: bool, findings: "Findings") -> "Columns":
    """Returns the features of a record: those of the schema, or what is known without it."""
    from pipeline.commands.verify import schema_file
    from pipeline.commands.verify.file_names import SCHEMA

    if not has_runs and not output.has(SCHEMA):
        return schema_file.COLUMNS
    with findings.check(f"{SCHEMA}: the features of a record") as check:
        try:
            columns = schema_file.columns(output.read(SCHEMA, schema_file.MAX_BYTES))
        except (OSError, ValueError) as error:
            findings.problem("the schema is broken", f"{SCHEMA}: {one_line(error)}")
            return schema_file.COLUMNS
        check.text = f"{SCHEMA}: {len(columns)} features of a record"
        return columns
