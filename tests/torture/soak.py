"""A soak: many small images in one process, whose memory, file handles and threads are sampled while it embeds.

A local run holds what crosses from one stage to the next, some kilobytes an image, before it embeds the first one. So
the samples begin with the first vector: they show what embedding an image leaves behind.
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers import data_generation as data
from tests.helpers import tiny_module
from tests.helpers.running import ROOT
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
    def typical(cls, samples: list["Sample"]) -> "Sample":
        """Returns the medians: how many files are open at a moment is chance, and a leak moves its median."""
        names = (field.name for field in dataclasses.fields(cls))
        return cls(*(int(statistics.median(getattr(sample, name) for sample in samples)) for name in names))

    def text(self) -> str:
        return f"{self.memory / 2**20:.0f} MiB, {self.files} files, {self.threads} threads"

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


def run(scratch: Path, images: int = 50_000) -> Outcome:
    """Embeds small images in one process, and compares the first tenth of that with the rest. Raises Broken."""
    photos, output = scratch / "photos", scratch / "out"
    photos.mkdir()
    pictures = [data.jpeg(seed, 32, 32) for seed in range(min(images, _PICTURES))]
    for i in range(images):
        (photos / f"{i:06d}.jpg").write_bytes(pictures[i % len(pictures)] + b"%06d" % i)
    model = tiny_module.write_plain(scratch / "model")
    command = [sys.executable, "run_pipeline.py", "--input", photos, "--output", output]
    command += ["--model", model, "--image_size", "24x40"]
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
        time.sleep(0.05)
    text, _ = process.communicate()
    check(process.returncode == 0, text)
    check(f"{images} images listed = {images} embedded" in text, text)
    check(len(samples) >= 20, f"{len(samples)} samples are too few")
    tenth = len(samples) // 10
    first, rest = Sample.typical(samples[:tenth]), Sample.typical(samples[tenth:])
    last = Sample.typical(samples[-tenth:])
    for part in (rest, last):
        check(part.memory <= 1.1 * first.memory, f"memory: {first.memory:,} bytes in the first tenth, {part.memory:,}")
        check(part.files <= first.files + 2, f"open files: {first.files} in the first tenth, {part.files} later")
        check(part.threads <= first.threads + 2, f"threads: {first.threads} in the first tenth, {part.threads} later")
    return Outcome(
        f"a soak of {images:,} small images",
        f"`tests.torture.soak`: {len(samples)} samples while it embeds",
        images,
        f"{first.text()} in the first tenth; {rest.text()} after it, {last.text()} in the last tenth",
    )
