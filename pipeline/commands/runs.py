"""The command that shows the runs in an output side by side."""

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from pipeline.commands import frame
from pipeline.flags import flag_types
from pipeline.flags.argument_parser import Parser
from transforms.elements.one_line import name, one_line

if TYPE_CHECKING:
    from pipeline.report.page.drift import Statistics
    from pipeline.report.run_report import RunReport

_EXAMPLES = """\
  python -m pipeline runs --output vectors
  python -m pipeline runs --output gs://bucket/vectors --last 30 --format html > runs.html

exit code: 0 done; 2 a flag is wrong, or there is no run whose report can be read.
"""

# Column → its heading.
_COLUMNS = {
    "run": "run",
    "listed": "listed",
    "new": "new",
    "failed": "failed",
    "images_per_second": "images/s",
    "seconds": "seconds",
    "model": "model",
    "shift": "shift",
    "overlap": "overlap",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """What is shown of a run.

    Attributes:
      run, started_at: its name and its begin.
      listed, new, failed: numbers of images; new ones were embedded by this run.
      failure_rate: of those listed.
      images_per_second, seconds: as in its report.
      model: the name of its model, and the first eight characters of the digest.
      shift, overlap: the drift since the latest earlier run with the same model and enough images in its sample, see
        drift.Drift; None if it was not measured.
      drifted: whether that is more than chance.
    """

    run: str
    started_at: str
    listed: int
    new: int
    failed: int
    failure_rate: float
    images_per_second: float
    seconds: float
    model: str
    shift: float | None = None
    overlap: float | None = None
    drifted: bool = False

    def cells(self) -> dict[str, str]:
        """Returns the text of each column."""
        facts = dataclasses.asdict(self)
        drift = {name: "–" if facts[name] is None else f"{facts[name]:.2f}" for name in ("shift", "overlap")}
        if self.drifted:
            drift["shift"] += " !"
        return {
            "run": name(self.run),
            **{name: f"{facts[name]:,}" for name in ("listed", "new")},
            "failed": f"{self.failed:,} ({self.failure_rate:.1%})" if self.failed else "0",
            "images_per_second": f"{self.images_per_second:,.1f}",
            "seconds": f"{self.seconds:,.0f}",
            "model": name(self.model),
            **drift,
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return frame.run(_parser(), argv, _work, only_shows=True)


def _parser() -> Parser:
    parser = frame.parser("runs", "Shows the runs in an output side by side, the earliest first.", _EXAMPLES)
    parser.add_argument("--output", metavar="DIR", help="the directory that runs wrote to, local or in a bucket")
    parser.add_argument(
        "--last", type=flag_types.positive, default=20, metavar="N", help="show the last N runs (default: %(default)s)"
    )
    parser.add_argument(
        "--format", choices=("table", "json", "html"), default="table", help="of the result (default: %(default)s)"
    )
    return parser


def _work(args: argparse.Namespace) -> str:
    if not args.output:
        raise ValueError("--output: expected the directory that runs wrote to")
    from pipeline.report import earlier_runs

    output = flag_types.absolute(args.output)
    reports = _reports(output, args.screen)
    rows = _rows(output, reports[-args.last - earlier_runs.MOST_REPORTS :], args.screen)[-args.last :]
    return _FORMATS[args.format](rows)


def _reports(output: str, screen: TextIO) -> list["RunReport"]:
    """Returns the reports of all runs in an output, the earliest first. The screen names other files."""
    from pipeline.report import run_report
    from transforms.output import layout
    from transforms.storage import files

    try:
        paths = [metadata.path for metadata in files.match(layout.report(output, "*"))]
    except (OSError, ValueError) as error:
        raise ValueError(f"--output {output!r} cannot be listed: {one_line(error)}") from error
    reports = []
    for run_id in map(layout.run_id, paths):
        try:
            report = run_report.read(output, run_id)
        except (ValueError, OSError) as error:
            screen.write(f"runs: skips {name(run_id)}: {one_line(error)}\n")
            continue
        reports += [report] if report else []
    if not reports:
        what = "none of its runs/*.json can be read" if paths else "no runs/*.json there"
        raise ValueError(f"--output {output!r}: {what}: expected the directory that runs wrote to")
    return sorted(reports, key=lambda report: (report.started_at, report.run_id))


def _rows(output: str, reports: Sequence["RunReport"], screen: TextIO) -> list[Row]:
    """Returns the rows of runs, each with its drift since an earlier one among them."""
    from pipeline.report.page import drift

    rows = []
    latest: dict[str, Statistics] = {}  # digest of a model → of its latest run
    for report in reports:
        row, now = _row(report), _statistics(output, report.run_id, screen)
        before = latest.get(now.digest) if now else None
        if before and now and (moved := drift.between(before, now)):
            row = dataclasses.replace(row, shift=moved.shift, overlap=moved.overlap, drifted=moved.is_significant)
        rows.append(row)
        if now and now.can_be_compared:
            latest[now.digest] = now
    return rows


def _row(report: "RunReport") -> Row:
    counts, model = report.counts, report.model
    return Row(
        report.run_id,
        report.started_at,
        counts["listed"],
        counts["embedded"],
        counts["failed"],
        report.failure_rate,
        report.images_per_second,
        report.elapsed_seconds,
        f"{model['name']} {model['digest'][:8]}",
    )


def _statistics(output: str, run_id: str, screen: TextIO) -> "Statistics | None":
    """Returns the statistics of a run; None if it has none that can be read. The screen names a broken file."""
    from pipeline.report import statistics_file

    try:
        return statistics_file.read(output, run_id)
    except (ValueError, OSError) as error:
        screen.write(f"runs: no drift of {name(run_id)}, whose statistics cannot be used: {one_line(error)}\n")
        return None


def _table(rows: Sequence[Row]) -> str:
    cells = [_COLUMNS, *(row.cells() for row in rows)]
    widths = {name: max(len(row[name]) for row in cells) for name in _COLUMNS}
    return "\n".join(_line(row, widths) for row in cells)


def _line(row: Mapping[str, str], widths: Mapping[str, int]) -> str:
    texts = {"run", "model"}
    return "  ".join(
        row[name].ljust(width) if name in texts else row[name].rjust(width) for name, width in widths.items()
    ).rstrip()


def _json(rows: Sequence[Row]) -> str:
    facts: list[dict[str, Any]] = [dataclasses.asdict(row) for row in rows]
    return json.dumps(facts, indent=2)


def _html(rows: Sequence[Row]) -> str:
    from pipeline.report.page import runs_page

    return runs_page.html(_COLUMNS, [row.cells() for row in rows], [row.cells()["run"] for row in rows if row.drifted])


_FORMATS = {"table": _table, "json": _json, "html": _html}
