"""atheris, libFuzzer for Python: it mutates inputs, and follows those that reach code that none has reached."""

import contextlib
import random
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

# Packages whose code is instrumented, so that the fuzzer sees which of it an input reaches.
_INSTRUMENTED = ["transforms", "pipeline", "PIL", "pillow_heif", "tarfile", "csv"]


def plain_targets() -> "Mapping[str, Target]":
    """Returns the targets by name."""
    from tests.fuzz import targets

    return targets.all_targets()


def instrumented_targets() -> "Mapping[str, Target]":
    """Returns the targets by name. What they call is instrumented if this process has not imported it before."""
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        return plain_targets()


def run(name: str, corpus: Path, artifacts: Path, options: list[str]) -> None:
    """Fuzzes a target until libFuzzer ends the process.

    Args:
      name: of the target.
      corpus: an empty directory for its inputs.
      artifacts: an empty directory for the input that is a finding.
      options: of libFuzzer.
    """
    import atheris

    target = plain_targets()[name]
    for number, seed in enumerate(target.seeds()):
        (corpus / f"{number:03d}").write_bytes(seed)
        with contextlib.suppress(Exception):  # libFuzzer runs it again, and reports it
            target.run(seed)  # what is made at the first call is not the cost of an input
    repair = target.repair

    def execute(content: bytes) -> None:
        try:
            target.execute(content)
        except BaseException:
            # Of crashes and hangs libFuzzer itself writes the input.
            (artifacts / "finding").write_bytes(content)
            raise

    def mutate(content: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        # Readers see broken checksums too. A repair may make an input of its own, whose JSON a mutation would break.
        mutated = atheris.Mutate(content, max_size) if rng.random() < 0.7 else content
        return repair(mutated, rng)[:max_size] if repair and rng.random() < 0.8 else mutated

    mutator = {"custom_mutator": mutate} if repair else {}
    atheris.Setup(["fuzz", *options, f"-artifact_prefix={artifacts}/", str(corpus)], execute, **mutator)
    atheris.Fuzz()
