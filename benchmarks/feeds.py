"""The images per second that runs promise to feed, beside those that a simulated device without a limit gets.

`python -m benchmarks.feeds`: thumbnails as files, and as objects of fake-gcs-server, with threads and with decoder
processes. The promise is `feed` in the report of the same run. The exit code is 1 if a device gets less than 80 % or
more than 120 % of it. fake-gcs-server has to be on the PATH. It runs on the cores that the command leaves free. If it
leaves none, the server's time counts as if the command had taken it.
"""

import argparse
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import contenders, machine, measures, models, photographs, small_images
from benchmarks.models import AVERAGES, ROOT
from benchmarks.peers import contract
from pipeline.report.input_rate import InputRate
from pipeline.report.run_report import RunReport
from transforms.concurrent.cores import usable_cores

_SERVER = "fake-gcs-server"
_NO_LIMIT = 1e6  # images per second
_TOLERANCE = 0.2
_CLOCK_SECONDS = 0.05
_CREDENTIALS = {"type": "authorized_user", "token": "emulator", "expiry": "2099-01-01T00:00:00Z"}


class Bucket:
    """A server with one bucket of images, in memory."""

    def __init__(self, cores: Sequence[int], images: Sequence[Path], scratch: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._host = f"127.0.0.1:{free.getsockname()[1]}"
        address, port = self._host.split(":")
        flags = ("-backend=memory", "-scheme=http", f"-host={address}", f"-port={port}", "-log-level=error")
        rarely = os.environ | {"GOGC": "1000"}  # Go's garbage collector takes half of the server's time otherwise
        command = ("taskset", "--cpu-list", ",".join(map(str, cores)), _SERVER, *flags, f"-public-host={self._host}")
        self._server = subprocess.Popen(command, env=rarely)
        credentials = _CREDENTIALS | dict.fromkeys(("client_id", "client_secret", "refresh_token"), "x")
        file = scratch / "credentials.json"
        file.write_text(json.dumps(credentials))
        self.environment = {
            "STORAGE_EMULATOR_HOST": f"http://{self._host}",
            "GOOGLE_CLOUD_PROJECT": "test",
            "GOOGLE_APPLICATION_CREDENTIALS": str(file),
        }
        self._fill(images)

    @property
    def seconds(self) -> float:
        """The time of cores that the server has taken, in seconds."""
        fields = Path(f"/proc/{self._server.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._server.terminate()
        self._server.wait()

    def _fill(self, images: Sequence[Path]) -> None:
        connection = http.client.HTTPConnection(self._host)
        until = time.monotonic() + 20
        while True:
            try:
                connection.connect()
                break
            except ConnectionRefusedError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        self._post(connection, "/storage/v1/b?project=test", json.dumps({"name": "images"}).encode())
        for image in images:
            target = f"/upload/storage/v1/b/images/o?uploadType=media&name={image.name}"
            self._post(connection, target, image.read_bytes())

    def _post(self, connection: http.client.HTTPConnection, target: str, body: bytes) -> None:
        connection.request("POST", target, body)
        response = connection.getresponse()
        response.read()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{_SERVER} answered {response.status} to POST {target}")


def measure(
    inputs: str, flags: Sequence[str], cores: int, bucket: Bucket, saved_model: Path, cache: Path
) -> tuple[InputRate, float, float]:
    """Returns the rate that a run promises, the images per second that it reached, and the server's cores meanwhile.

    Raises:
      RuntimeError: if the run fails, or has too few images to promise a rate.
    """
    with _scratch(cache) as scratch:
        output = scratch / "output"
        paths = ("--input", inputs, "--output", output, "--model", saved_model, "--batch_size", AVERAGES.batch_size)
        device = ("-m", "benchmarks.simulated_device", output, "--device_rate", _NO_LIMIT)
        command = [*machine.on_cores(cores), sys.executable, *device, *paths, *flags]
        environment = os.environ | contenders.cache_variables(cache / "models-cache") | bucket.environment
        with (scratch / "errors").open("w+") as errors:
            process = subprocess.Popen([*map(str, command)], cwd=ROOT, env=environment, stdout=errors, stderr=errors)
            clocks = [(time.time(), bucket.seconds)]
            while process.poll() is None:
                time.sleep(_CLOCK_SECONDS)
                clocks.append((time.time(), bucket.seconds))
            errors.seek(0)
            said = errors.read()[-2000:]
        reports = list(output.glob("runs/*.json"))
        report = RunReport.from_json(reports[0].read_bytes()) if reports else None
        batches = measures.read_batches(output / contract.BATCHES) if report else []
    if not report or not report.feed:
        raise RuntimeError(f"no rate, exit code {process.returncode}: {said}")
    first, last = batches[0].ended, batches[-1].ended
    began, ended = (np.interp(moment, *zip(*clocks, strict=True)) for moment in (first, last))
    return InputRate.of_facts(report.feed), measures.steady_state(batches) or 0.0, (ended - began) / (last - first)


@contextlib.contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    parent = cache / "scratch"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as directory:
        yield Path(directory)


def _main(args: argparse.Namespace) -> int:
    saved_model = models.make(AVERAGES, args.cache)
    models.fill_cache(saved_model, contenders.cache_variables(args.cache / "models-cache"))
    thumbnails = photographs.make(args.cache / photographs.THUMBNAILS, args.images, photographs.THUMBNAIL)
    print(f"{machine.description()['cpu']}; {args.cores} cores for the command; {args.images} images of 64×64\n")
    print(
        "| from | with | promised, images/s | got | got / promised | core_ms | lock_ms |\n|---|---|---|---|---|---|---|"
    )
    others = sorted(os.sched_getaffinity(0))[args.cores :]
    is_kept = True
    with _scratch(args.cache) as scratch:
        photographs.lay_out(thumbnails, scratch / "photographs")
        with contextlib.closing(Bucket(others or sorted(os.sched_getaffinity(0)), thumbnails, scratch)) as bucket:
            for place, inputs in (("files", str(scratch / "photographs")), ("gs://", "gs://images/*.jpg")):
                for mode, processes in small_images.MODES.items():
                    flags = ("--decode_processes", processes)
                    rate, got, of_server = measure(inputs, flags, args.cores, bucket, saved_model, args.cache)
                    server = 0.0 if others else of_server / got
                    promised = 1 / (1 / rate.images_per_second + server / args.cores)
                    is_kept &= abs(got / promised - 1) <= _TOLERANCE
                    core = f"{rate.core_seconds * 1e3:.3f}" + (f" + {server * 1e3:.3f}" if server else "")
                    row = (place, mode, f"{promised:,.0f}", f"{got:,.0f}", f"{got / promised:.2f}", core)
                    print(f"| {' | '.join(row)} | {rate.lock_seconds * 1e3:.3f} |", flush=True)
    return 0 if is_kept else 1


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.feeds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=AVERAGES.images, metavar="N", help="thumbnails (%(default)s)")
    parser.add_argument("--cores", type=int, default=usable_cores(), metavar="N", help="for the command (%(default)s)")
    parser.add_argument("--cache", type=Path, default=models.CACHE_DEFAULT, metavar="DIR", help="(%(default)s)")
    args = parser.parse_args(argv)
    if not shutil.which(_SERVER):
        print(
            f"benchmarks.feeds: no {_SERVER} on the PATH: go install github.com/fsouza/{_SERVER}@latest",
            file=sys.stderr,
        )
        return 2
    return _main(args)


if __name__ == "__main__":
    sys.exit(main())
