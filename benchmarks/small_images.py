"""The contenders for thumbnails and a model that only averages: the cost of an image outside decoder and model.

Each runs on 1 core, on 2, and so on. `simulated_devices` are this project's command with devices of several speeds.
"""

from collections.abc import Iterator, Sequence

from benchmarks.contenders import OURS, PEER, ROOF, Contender
from transforms.concurrent.cores import usable_cores

DECODE = "decode"
PEER_NAME = "tf-data"
DEVICE_RATES = (500, 1000, 2000, 4000)
MODES = {"threads": "0", "processes": "cores"}


def cores_default() -> list[int]:
    """Returns the numbers of cores to measure with: 1 and 2, where this machine has them."""
    return [cores for cores in (1, 2) if cores <= usable_cores()]


def contenders(cores: Sequence[int]) -> list[Contender]:
    """Returns the contenders on each number of cores."""
    return [contender for number in cores for contender in _on(number)]


def simulated_devices(cores: Sequence[int]) -> list[Contender]:
    """Returns the command with each device on each number of cores, and how fast these can decode."""
    return [contender for number in cores for contender in (*_devices_on(number), _decode(number))]


def _on(cores: int) -> Iterator[Contender]:
    for mode, processes in MODES.items():
        flags = ("--decode_processes", processes)
        yield Contender(f"ours-{mode}", OURS, f"run_pipeline.py {' '.join(flags)}", "ours", flags, cores=cores)
    description = "tf.data, AUTOTUNE, without a resize"
    yield Contender(PEER_NAME, PEER, description, "tf_data.py", ("--resize", "0"), cores=cores)
    yield Contender("tf-data-resize", PEER, "the same with the resize of its guides", "tf_data.py", cores=cores)
    yield _decode(cores)
    description = "a loop over simplejpeg alone, a process a core"
    flags = ("--decoder", "simplejpeg")
    yield Contender("simplejpeg", ROOF, description, "decode_loop", flags, writes_vectors=False, cores=cores)


def _devices_on(cores: int) -> Iterator[Contender]:
    for rate in DEVICE_RATES:
        for mode, processes in MODES.items():
            flags = ("--decode_processes", processes, "--device_rate", str(rate))
            description = f"run_pipeline.py {' '.join(flags[:2])}"
            name = f"ours-{mode}"
            yield Contender(name, OURS, description, "simulated_device", flags, cores=cores, device_rate=rate)


def _decode(cores: int) -> Contender:
    description = "a loop over this project's decoder and SHA-256, a process a core"
    return Contender(DECODE, ROOF, description, "decode_loop", writes_vectors=False, cores=cores)
