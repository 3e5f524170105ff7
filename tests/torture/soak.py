"""A soak: many small images in one process, whose memory, file handles and threads are sampled."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

from tests import data_generation as data
from tests.running import ROOT
from tests.torture.outcome import Outcome, check

# Of all images, that many are different. The others are links to them with a comment of their own behind.
_PICTURES = 200


@dataclasses.dataclass(frozen=True)
class Sample:
    """What a process holds at a moment: bytes of memory, open files, threads."""

    memory: int
    files: int
    threads: int

    @classmethod
    def of(cls, process: int) -> "Sample":
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":" in line
        )
        return cls(
            int(status["VmRSS"].split()[0]) * 1024,
            len(os.listdir(f"/proc/{process}/fd")),
            int(status["Threads"]),
        )


def run(scratch: Path, images: int = 50_000, model: str = "efficientnet_lite0") -> Outcome:
    """Embeds small images in one process, and compares its first tenth with what follows. Raises Broken."""
    photos, output = scratch / "photos", scratch / "out"
    photos.mkdir()
    pictures = [data.jpeg(seed, 32, 32) for seed in range(min(images, _PICTURES))]
    for i in range(images):
        (photos / f"{i:06d}.jpg").write_bytes(pictures[i % len(pictures)] + b"%06d" % i)
    command = [sys.executable, "run_pipeline.py", "--input", photos, "--output", output, "--model", model]
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    samples = []
    while process.poll() is None:
        records = sum(path.stat().st_size for path in output.glob("embeddings/*/.parts/*.tfrecord"))
        if records:
            try:
                samples.append(Sample.of(process.pid))
            except (FileNotFoundError, ProcessLookupError):
                break
        time.sleep(0.5)
    text, _ = process.communicate()
    check(process.returncode == 0, text)
    check(f"{images} images listed = {images} embedded" in text, text)
    first, rest = samples[: max(1, len(samples) // 10)], samples[len(samples) // 10 :]
    most, later = (
        Sample(*(max(getattr(sample, field.name) for sample in part) for field in dataclasses.fields(Sample)))
        for part in (first, rest)
    )
    check(
        later.memory <= 1.15 * most.memory, f"memory: {most.memory:,} bytes in the first tenth, then {later.memory:,}"
    )
    check(later.files <= most.files + 8, f"open files: {most.files} in the first tenth, then {later.files}")
    check(later.threads <= most.threads + 2, f"threads: {most.threads} in the first tenth, then {later.threads}")
    return Outcome(
        f"a soak of {images:,} small images",
        "`tests.torture.soak`, two samples a second",
        len(samples),
        f"at most {most.memory / 2**20:.0f} MiB, {most.files} files and {most.threads} threads in the first tenth, "
        f"{later.memory / 2**20:.0f} MiB, {later.files} and {later.threads} after it",
    )
