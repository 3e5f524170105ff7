"""This project's command on the device that is measured, with a record of its batches and of each one that was halved.

`python -m benchmarks.gpu.ours OUTPUT [--cpus_in_place N] [--memory_limit MIB] [flags of run_pipeline.py]`.
"""

import argparse
import functools
import json
import sys
from pathlib import Path

from benchmarks import ours
from benchmarks.gpu import in_place
from pipeline.launch import main
from transforms.models.engines import device, fixed_batches

HALVINGS = "halvings.jsonl"


def record_halvings(output: Path) -> None:
    """Makes the command record, in its output directory, the size of a batch that did not fit and the size after it."""
    halve = fixed_batches.FixedBatches._halve

    def recorded(batches: fixed_batches.FixedBatches, too_large: int) -> None:
        before = batches.batch_size
        halve(batches, too_large)
        if batches.batch_size < before:
            with Path(output, HALVINGS).open("a") as file:
                file.write(json.dumps([before, batches.batch_size]) + "\n")

    fixed_batches.FixedBatches._halve = recorded


def limit_memory(mib: int) -> None:
    """Gives the process a logical GPU with so many MiB, on the first GPU."""
    has_gpu = device.has_gpu

    @functools.cache
    def limited() -> bool:
        if not has_gpu():  # it also makes the memory of GPUs grow, which logical ones do not allow
            return False
        import tensorflow as tf

        gpu, *_ = tf.config.list_physical_devices("GPU")
        tf.config.experimental.set_memory_growth(gpu, False)
        tf.config.set_logical_device_configuration(gpu, [tf.config.LogicalDeviceConfiguration(memory_limit=mib)])
        return True

    device.has_gpu = limited


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("output", type=Path)
    parser.add_argument("--cpus_in_place", type=int, default=0, metavar="N", help="CPUs in place of GPUs (0)")
    parser.add_argument("--memory_limit", type=int, metavar="MIB", help="of the first GPU, for this process")
    args, flags = parser.parse_known_args()
    ours.record_batches(args.output)
    record_halvings(args.output)
    if args.cpus_in_place:
        in_place.use_cpus(args.cpus_in_place)
    if args.memory_limit and args.cpus_in_place:
        in_place.limit_memory(args.memory_limit)
    elif args.memory_limit:
        limit_memory(args.memory_limit)
    sys.exit(main(flags))
