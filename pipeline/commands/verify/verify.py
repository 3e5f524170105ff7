"""The command that reads the output of runs again, and lists what is wrong with it.

It reads with code that shares none of the writer's. Only a sample's images are read, decoded and embedded by the stages
themselves, because these are compared with the records.
"""

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.commands import frame
from pipeline.flags import types
from pipeline.flags.argument_parser import Parser
from pipeline.flags.parser import add_billing_project
from transforms.elements.formats import INPUT_FORMATS, SHARD_FORMATS
from transforms.elements.one_line import one_line
from transforms.elements.run_id import check_run_id

if TYPE_CHECKING:
    from pipeline.commands.verify.findings import Findings
    from pipeline.commands.verify.identities import ContentVectors
    from pipeline.commands.verify.input_images import Image
    from pipeline.commands.verify.record_file import Record
    from pipeline.commands.verify.run_files import RunFiles

_EXAMPLES = """\
  # all runs in a directory: records, failures, reports
  python -m pipeline verify --output vectors

  # a nightly run, its rows, and that no image of the bucket is lost; 100 images are embedded again
  python -m pipeline verify --output gs://bucket/vectors --output_table project:dataset.images \\
      --input 'gs://bucket/photos/**' --sample 100 --json

exit code: 0 nothing is wrong; 1 something is, and is listed; 2 a flag is wrong, or there is no run.
"""
# Equal bytes with different vectors are compared in rounds of so many contents, which bounds the memory for vectors.
_CONTENTS_PER_ROUND = 16_384
_OF_RUN = re.compile(r"(?:embeddings|failures)/([^/]+)/.+|runs/([^/]+)\.(?:json|html|statistics|unfinished)", re.DOTALL)
# A process fills such a file, and renames it.
_BEING_WRITTEN = re.compile(r"runs/\.([^/]+)\.(?:json|html|statistics|unfinished)\.[0-9a-f]{32}", re.DOTALL)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return frame.run(_parser(), argv, _work)


def _parser() -> Parser:
    parser = frame.parser("verify", "Reads the output of runs again, and lists what is wrong with it.", _EXAMPLES)
    parser.add_argument("--output", metavar="DIR", help="the directory that runs wrote to, local or gs://")
    parser.add_argument(
        "--output_table",
        metavar="PROJECT:DATASET.TABLE",
        type=types.table,
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
        type=types.positive,
        default=0,
        metavar="N",
        help="read, decode and embed N images again, and compare them with their records. Images in shards need "
        "--input and --input_format (default: none)",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    add_billing_project(parser)
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
        types.absolute(args.output) if args.output else None,
        table=args.output_table,
        run_id=args.run_id,
        inputs=[types.pattern(text) for text in args.input or ()],
        input_format=args.input_format,
        sample_size=args.sample,
        billing_project=args.billing_project,
        include_hidden=args.include_hidden,
        uri_column=args.uri_column,
    )
    text = json.dumps(findings.document(), indent=2) if args.json else findings.text()
    return text, frame.FAILED if findings.total else frame.DONE


def verify(
    output: str | None,
    *,
    table: str | None = None,
    run_id: str | None = None,
    inputs: Sequence[str] = (),
    input_format: str = "images",
    sample_size: int = 0,
    billing_project: str | None = None,
    include_hidden: bool = False,
    uri_column: str | None = None,
) -> "Findings":
    """Returns the findings about one run, or all runs, of an output; the arguments are as the flags.

    Raises:
      ValueError: if there is no run, or the images of `inputs` cannot be listed.
      OSError: if the output cannot be listed.
    """
    from pipeline.commands.verify.findings import Findings

    findings = Findings()
    reports: Mapping[str, dict[str, Any]] = {}
    if output:
        listed_by = {"include_hidden": include_hidden, "uri_column": uri_column}
        reports = _verify_files(output, run_id, inputs, input_format, listed_by, sample_size, billing_project, findings)
    if table:
        from pipeline.commands.verify import table_rows

        if not output:
            reports = table_rows.reports(table, run_id, findings)
            if not reports and not findings.total:
                raise ValueError(f"--output_table {table!r} has no run{f' {run_id!r}' if run_id else ''}")
        for checked_id, report in reports.items():
            table_rows.check(table, checked_id, report, findings)
    return findings


def _verify_files(
    output: str,
    run_id: str | None,
    inputs: Sequence[str],
    input_format: str,
    listed_by: Mapping[str, Any],
    sample_size: int,
    billing_project: str | None,
    findings: "Findings",
) -> dict[str, dict[str, Any]]:
    """Checks the files of an output, and returns run id → report of the runs that have a usable one."""
    from pipeline.commands.verify import input_images, schema_file
    from pipeline.commands.verify.findings import counted
    from pipeline.commands.verify.identities import ContentVectors, Identities, identity
    from pipeline.commands.verify.run_files import RunFiles
    from pipeline.commands.verify.sample import Sample
    from pipeline.commands.verify.sample import check as check_sample
    from pipeline.commands.verify.stored import SCHEMA, Stored

    try:
        stored = Stored(output)
    except (OSError, ValueError) as error:
        raise ValueError(f"--output {output!r} cannot be listed: {one_line(error)}") from error
    if not stored.names:
        raise ValueError(f"--output {output!r} has no run: expected a directory that runs wrote to")
    with findings.check(f"{counted(len(stored.names), 'file')} in the output, each of a run"):
        run_ids = _runs(stored.names, findings)
    columns = _columns(stored, findings) if run_ids or SCHEMA in stored.names else schema_file.COLUMNS
    chosen = run_ids if run_id is None else {run_id}
    runs = [RunFiles(stored, name, columns) for name in sorted(chosen)]
    contents, recorded, versions, sample = ContentVectors(), Identities(), Identities(), Sample(sample_size)

    def take(record: "Record") -> None:
        if inputs:
            recorded.add(identity(record.key))
            versions.add(identity(record.key, record.version))
        sample.offer(record)

    def listing() -> Iterator["Image"]:
        return input_images.images(inputs, input_format, billing_project, **listed_by)

    for run in runs:
        run.check(contents, take, findings)
    runs.sort(key=lambda run: run.report["started_at"] if run.report else "")
    with findings.check("equal bytes have equal vectors, in all runs that were checked"):
        _compare_contents(runs, contents, findings)
    if inputs and runs:
        digests = {run.digest for run in runs}
        for name in run_ids - chosen:
            for record in RunFiles(stored, name, columns).records():
                if record.model_digest in digests:
                    recorded.add(identity(record.key))
                    versions.add(identity(record.key, record.version))
        input_images.check(listing, runs, recorded, versions, findings)
    if sample_size:
        models = {run.digest: run.report["model"] for run in runs if run.report}
        of_shards = listing if input_format in SHARD_FORMATS else None
        check_sample(sample, models, of_shards, billing_project, findings)
    return {run.run_id: run.report for run in runs if run.report}


def _runs(names: Sequence[str], findings: "Findings") -> set[str]:
    """Returns the names of all complete runs, and reports files that belong to no run.

    A run without a report is unfinished if it has a claim, or nothing but parts.
    """
    from pipeline.commands.verify.run_files import claim_of, report_of
    from pipeline.commands.verify.stored import SCHEMA

    every: set[str] = set()
    with_files: set[str] = set()
    for name in names:
        being_written = _BEING_WRITTEN.fullmatch(name)
        of_run = being_written or _OF_RUN.fullmatch(name)
        try:
            if of_run:
                check_run_id(run_id := next(filter(None, of_run.groups())))
                every.add(run_id)
                if "/." not in name and name != claim_of(run_id):
                    with_files.add(run_id)
        except ValueError:
            of_run = None
        if not of_run and name != SCHEMA:
            findings.problem("a stray file", name)
        elif being_written:
            findings.note("a file that a process is writing, or was when it was killed", name)
    present = set(names)
    claimed = {run_id for run_id in every if claim_of(run_id) in present}
    runs = {run_id for run_id in with_files if run_id not in claimed or report_of(run_id) in present}
    for run_id in sorted(every - runs):
        findings.note("an unfinished run", run_id)
    for run_id in sorted(runs & claimed):
        findings.note("a complete run that an unfinished one is to replace, or that is not cleaned up yet", run_id)
    if not every and SCHEMA in present:
        findings.problem("a file without a run", SCHEMA)
    return runs


def _columns(stored: Any, findings: "Findings") -> Mapping[str, tuple[str, int | None]]:
    from pipeline.commands.verify import schema_file
    from pipeline.commands.verify.stored import SCHEMA

    with findings.check(f"{SCHEMA}: the features of a record") as check:
        try:
            columns = schema_file.columns(stored.read(SCHEMA, schema_file.MAX_BYTES))
        except (OSError, ValueError) as error:
            findings.problem("the schema is broken", f"{SCHEMA}: {one_line(error)}")
            return schema_file.COLUMNS
        check.text = f"{SCHEMA}: {len(columns)} features of a record"
        return columns


def _compare_contents(runs: Sequence["RunFiles"], contents: "ContentVectors", findings: "Findings") -> None:
    """Compares vectors of equal bytes that are not equal: a shard's images are embedded anew in each batch."""
    from pipeline.commands.verify.run_files import content_of
    from pipeline.commands.verify.sample import COSINE, similarity

    conflicts = contents.conflicts()
    for start in range(0, len(conflicts), _CONTENTS_PER_ROUND):
        of_round = set(conflicts[start : start + _CONTENTS_PER_ROUND])
        firsts: dict[bytes, Record] = {}
        for run in runs:
            for record in run.records():
                if (content := content_of(record)) not in of_round:
                    continue
                first = firsts.setdefault(content, record)
                if (cosine := similarity(record.vector, first.vector)) < COSINE:
                    pair = " and ".join(key.decode("utf-8", "backslashreplace") for key in (first.key, record.key))
                    findings.problem("equal bytes have different vectors", f"{pair}: cosine {cosine:.6f}")
