"""Fuzzes all that reads bytes that strangers write, guided by coverage: `make fuzz`.

Each target runs in a process of its own for its share of the time. An input that is a finding is shown in hex, with the
command that reproduces it. With the same seed, code and packages, a target begins with the same inputs.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from tests.fuzz import atheris_engine

# A hang in native code. Targets measure the time of all that returns.
_HANG_SECONDS = 30
_MAX_INPUT_BYTES = 16_384
_SECONDS_DEFAULT = 120


class Outcome(NamedTuple):
    """What became of a target: inputs tried, seconds, and the input that is a finding, with the end of its log."""

    executions: int
    seconds: float
    finding: bytes | None
    log: str


def fuzz(name: str, seconds: int, seed: int, scratch: Path) -> Outcome:
    """Fuzzes a target in a child, which inherits all that was imported, instrumented."""
    corpus, artifacts, log = scratch / name, scratch / f"{name}-findings", scratch / f"{name}.log"
    corpus.mkdir()
    artifacts.mkdir()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _fuzz_in_child(
            name,
            corpus,
            artifacts,
            log,
            [
                f"-max_total_time={seconds}",
                f"-seed={seed + 1}",  # 0 stands for one by chance
                f"-timeout={_HANG_SECONDS}",
                f"-report_slow_units={_HANG_SECONDS}",
                f"-max_len={_MAX_INPUT_BYTES}",
                "-rss_limit_mb=4096",
            ],
        )
    _, status = os.waitpid(child, 0)
    text = log.read_text(errors="replace")
    finding = next((path.read_bytes() for path in artifacts.iterdir()), None)
    if finding is None and status:
        raise RuntimeError(f"{name}: the fuzzer ended with status {status}: {text[-2000:]}")
    executions = re.findall(r"^#(\d+)", text, re.MULTILINE)
    return Outcome(int(executions[-1]) if executions else 0, time.monotonic() - start, finding, text)


def _fuzz_in_child(name: str, corpus: Path, artifacts: Path, log: Path, options: list[str]) -> NoReturn:
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        atheris_engine.run(name, corpus, artifacts, options)
    except BaseException:  # noqa: BLE001 - nothing of the parent's may run here
        traceback.print_exc()
    finally:
        os._exit(1)


def _show(name: str, outcome: Outcome) -> None:
    rate = outcome.executions / max(outcome.seconds, 1e-9)
    print(f"{name}: {outcome.executions} executions in {outcome.seconds:.0f} s, {rate:.0f} a second", flush=True)
    if outcome.finding is not None:
        print(outcome.log[-4000:])
        print(f"{name}: a finding of {len(outcome.finding)} bytes. To reproduce it:")
        print(f"python -m tests.fuzz --target {name} --input {outcome.finding.hex()}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=_SECONDS_DEFAULT, help="for all targets together (default: 120)")
    parser.add_argument("--seed", type=int, default=0, help="another seed tries other inputs (default: 0)")
    parser.add_argument("--target", metavar="NAME", help="fuzzes one target alone")
    parser.add_argument("--input", metavar="HEX", help="runs the target with this input alone, in hex")
    args = parser.parse_args(argv)
    targets = atheris_engine.instrumented_targets() if args.input is None else atheris_engine.plain_targets()
    if args.target not in (None, *targets):
        parser.error(f"--target {args.target!r}: expected one of {', '.join(targets)}")
    if args.input is not None and args.target is None:
        parser.error("--input needs --target")
    if args.input is not None:
        targets[args.target].execute(bytes.fromhex(args.input))
        return 0
    chosen = [args.target] if args.target else list(targets)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="image-embeddings-fuzz-") as scratch:
        tempfile.tempdir = scratch  # the children's files go with it
        for name in chosen:
            outcome = fuzz(name, max(1, args.seconds // len(chosen)), args.seed, Path(scratch))
            _show(name, outcome)
            outcomes.append(outcome)
    findings = sum(outcome.finding is not None for outcome in outcomes)
    print(f"{sum(outcome.executions for outcome in outcomes)} executions, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main())
