"""The argument parser of `run_pipeline.py`: its flags, their defaults and their help.

It imports no Beam, so that `--help` answers at once.
"""

import argparse
import math
from collections.abc import Callable

from pipeline.commands import verbs
from pipeline.flags import command_lines, flag_types, model_flags, storage_flags
from pipeline.flags.argument_parser import Parser
from pipeline.runners import presets
from transforms.concurrent import in_flight
from transforms.decoders.job import ONE_A_CORE, TIMEOUT_DEFAULT
from transforms.elements.formats import INPUT_FORMATS, OUTPUT_FORMATS, VECTOR_TYPES
from transforms.elements.run_id import check_run_id
from transforms.images.decode_settings import MAX_PIXELS_DEFAULT, MAX_PIXELS_LIMIT
from transforms.lists.uri_lists import URI_COLUMNS
from transforms.models import catalog
from transforms.models.engines.fixed_batches import BATCH_SIZE_DEFAULT
from transforms.models.spec import PRECISIONS

SAMPLES_OUTPUT = "output"

_DESCRIPTION = "Turns images into a table of vectors: list, read, decode, embed, write."
_SECONDS = flag_types.number_that(lambda seconds: 1 <= seconds < math.inf, "a number of seconds from 1")
_SPEED = flag_types.number_that(lambda speed: 0 < speed < math.inf, "a number above 0")
_RATE = flag_types.number_that(lambda rate: 0 <= rate <= 1, "a number from 0 to 1")

_EPILOG = """\
examples:
  python run_pipeline.py
      embed the sample images into ./output
  python run_pipeline.py --input photos --output vectors
      embed every image below photos/, on all cores of this machine
  python run_pipeline.py --input uris.csv --input_format list --output gs://bucket/vectors
      embed the images in a list, and write the vectors to a bucket
  python run_pipeline.py --input 'gs://bucket/photos/**' --output_table project:dataset.images \\
      --temp_location gs://bucket/tmp --prune
      for a nightly job: add new images of the bucket to the table, and remove the rows of deleted ones
  python run_pipeline.py --input 'gs://bucket/photos/**' --output gs://bucket/vectors \\
      --preset dataflow-gpu --project my-project --region us-central1 --temp_location gs://bucket/tmp \\
      --sdk_container_image REGION-docker.pkg.dev/my-project/images/embed:1 --dry_run --images 10000000
      print this job as Dataflow would get it, and its cost; without --dry_run, run it

The command passes Beam's own flags (--runner, --direct_num_workers, --project, --region, --temp_location, …) to Beam:
https://beam.apache.org/documentation/programming-guide/#configuring-pipeline-options

exit code: 0 done; 1 the job failed, or more images failed than --max_failure_rate allows, or all of them; 2 a flag or
an input is wrong, and no work has started; 130 interrupted by SIGINT, 143 by SIGTERM, and the same command goes on.
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `run_pipeline.py`, which leaves Beam's flags to Beam."""
    program = command_lines.join(command_lines.program())
    parser = Parser(
        prog=command_lines.name(),
        usage=f"{program} [VERB] [--input PATTERN]... [--output DIR] [flags] [Beam's own flags]",
        description=f"{_DESCRIPTION}\n\nverbs, each with its own --help:\n{verbs.described()}",
        epilog=command_lines.as_called(_EPILOG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_input(parser.add_argument_group("images to embed"))
    embedding = parser.add_argument_group("model and limits")
    _add_model(embedding)
    _add_limits(embedding)
    _add_reading(embedding)
    output = parser.add_argument_group("output")
    _add_output(output)
    _add_run(output)
    _add_only_new(
        parser.add_argument_group("only new images: a run skips those whose key, version and model it knows already")
    )
    _add_runs_on(parser.add_argument_group("where it runs (docs/dataflow.md); Beam's own flags win over a preset"))
    _add_dry_run(parser.add_argument_group("dry run: a job on Dataflow and its cost, without running it"))
    other = parser.add_argument_group("other")
    flag_types.add_switch(other, "--verbose", "show the logs of Beam and TensorFlow, and whole tracebacks")
    return parser


def flags_described() -> list[argparse.Action]:
    """Returns the command's own flags except --help, with their names, help, defaults and choices."""
    return [action for action in build_parser()._actions if action.dest != "help"]


def known_flags() -> list[str]:
    """Returns the command's own flags as a user writes them, such as `--input`."""
    return [flag for action in build_parser()._actions for flag in action.option_strings]


def _add_input(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--input",
        action="append",
        metavar="PATTERN",
        help="images: a directory or a quoted glob (** crosses directories), local, gs://, s3:// or az://. Repeat the "
        "flag for more. An image that several patterns match is taken once. A pattern whose last name has no extension "
        "takes what looks like an image by its name (default: the sample images of the package)",
    )
    flag_types.add_switch(
        group,
        "--include_hidden",
        "take hidden files and those of systems too, such as .a.jpg, ._a.jpg and @eaDir/a.jpg (default: they are left "
        "out and counted, unless a pattern names them)",
    )
    group.add_argument(
        "--input_format",
        choices=INPUT_FORMATS,
        default="images",
        help="format of the files that the patterns match. images: image files. list: text, CSV, TSV "
        "or JSON lines with URIs. "
        "tfrecord: files of tf.Examples with image/encoded and optionally image/key. tar: shards in webdataset layout "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--uri_column",
        metavar="NAME",
        help="with --input_format list, the column, or the field of JSON lines, that has the URIs (default: the first "
        f"of {', '.join(URI_COLUMNS)})",
    )


def _add_model(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--model",
        default=catalog.DEFAULT,
        metavar="HANDLE",
        help=f"one of {', '.join((*catalog.BUNDLED, *catalog.HUB))}; or a URL of tfhub.dev or kaggle.com, a short "
        "Kaggle handle, a SavedModel directory, a .keras file, an ONNX, OpenVINO IR or TFLite file (.onnx, .xml, "
        ".tflite) or a directory with one, or a .tar.gz of such a directory, local or in a bucket "
        "(default: %(default)s)",
    )
    model_flags.add(group)
    group.add_argument(
        "--batch_size",
        type=flag_types.positive,
        metavar="N",
        help=f"images per call of the model (default: {_by_preset(presets.batch_size)})",
    )
    group.add_argument(
        "--precision",
        choices=(*PRECISIONS, "auto"),
        default="float32",
        help="number format that the model computes in. bfloat16 is for CPUs that have it (AVX512-BF16, AMX), float16 "
        "for GPUs. auto measures on the sample images: it takes one of these if it is faster on this machine and the "
        "vectors keep a cosine of 0.999 to float32. Each precision has its own model digest, so that its vectors are "
        "not mixed with others (default: %(default)s)",
    )


def _add_limits(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--max_pixels",
        type=_max_pixels,
        default=MAX_PIXELS_DEFAULT,
        metavar="N",
        help=f"refuse an image whose header states more pixels than this, at most {MAX_PIXELS_LIMIT} "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--max_failure_rate",
        type=_RATE,
        metavar="RATE",
        help="end with exit code 1 if more than this fraction of the images failed, as in 0.01 for one in a hundred. "
        "1 allows any number. The run keeps everything that it wrote (default: exit code 1 if all of them failed, "
        "but not with --retry_failed)",
    )
    group.add_argument(
        "--top_classes",
        type=flag_types.positive,
        default=5,
        metavar="N",
        help="with a classifier, the number of best classes that a record holds beside the vector "
        "(default: %(default)s)",
    )


def _add_reading(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--read_concurrency",
        type=_read_concurrency,
        default=in_flight.CONCURRENCY_DEFAULT,
        metavar="N",
        help="images that a worker process reads at once, with any number of threads. Reading from a bucket is nearly "
        f"all waiting. At most {in_flight.CONCURRENCY_MAX} (default: %(default)s, about 7 times as fast as one at a "
        "time if a request takes 20 ms)",
    )
    group.add_argument(
        "--decode_processes",
        type=_decode_processes,
        metavar="N",
        help="processes of a worker that read and decode images for its threads, which share Python's lock and decode "
        f"little more than one of them does. {presets.CORES}: one for each core of the worker (default: "
        f"{_by_preset(presets.decode_processes)})",
    )
    group.add_argument(
        "--decode_timeout",
        type=_SECONDS,
        default=TIMEOUT_DEFAULT,
        metavar="SECONDS",
        help="with --decode_processes, decoding an image that takes longer is stopped, and the image is a failure "
        "(default: %(default)g)",
    )
    storage_flags.add(group)


def _add_output(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--output",
        metavar="DIR",
        help="directory for embeddings/, failures/, runs/ and schema.pbtxt, local, gs://, s3:// or az:// "
        f"(default: ./{SAMPLES_OUTPUT} for the sample images; your own images need the flag)",
    )
    group.add_argument(
        "--output_format",
        metavar="FORMAT",
        type=_output_formats,
        default=OUTPUT_FORMATS[0],
        help=f"format of the files of vectors below --output: {', '.join(OUTPUT_FORMATS)}, or "
        f"{','.join(OUTPUT_FORMATS)} for both (default: %(default)s)",
    )
    group.add_argument(
        "--vector_type",
        choices=VECTOR_TYPES,
        default=VECTOR_TYPES[0],
        help="type of a vector's numbers in the files. float16 takes half the room and has 11 significant bits "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--output_table",
        metavar="PROJECT:DATASET.TABLE",
        type=flag_types.table,
        help="BigQuery table for the vectors, which the run creates if there is none. The tables …_failures and …_runs "
        "and the view …_latest stand beside it. Load files go to --temp_location, which defaults to .temp in a gs:// "
        "--output",
    )
    flag_types.add_switch(
        group,
        "--make_latest",
        "let the view …_latest show this run's model from now on (default: only if there is no view yet)",
    )


def _add_run(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--run_id",
        metavar="NAME",
        type=_run_id,
        help="name of the run. If a run of that name is complete, nothing is done. If it was interrupted, it goes on "
        "(default: that of the latest interrupted run of the same inputs and model in the same output, which goes on; "
        "else the time and a random suffix)",
    )
    flag_types.add_switch(
        group,
        "--no_resume",
        "do not go on with an interrupted run: with --run_id, remove what it has stored and begin anew; without, begin "
        "another run",
    )
    group.add_argument(
        "--checkpoint_seconds",
        type=_SECONDS,
        default=60.0,
        metavar="S",
        help="in a bucket, and with --output_format parquet, close a file of vectors after this many seconds, so that "
        "an interrupted run loses no more than that. For TFRecords on a local disk every second is safe, whatever this "
        "flag says (default: %(default)g)",
    )
    flag_types.add_switch(
        group,
        "--no_html",
        "do not write runs/<run_id>.html below --output, the page that shows the run, some of its images and their "
        "neighbours",
    )
    flag_types.add_switch(
        group, "--overwrite", "replace the run of the same --run_id; with --output_table, this implies --reprocess"
    )


def _add_only_new(group: argparse._ActionsContainer) -> None:
    flag_types.add_switch(
        group, "--reprocess", "embed every image, even those that earlier runs wrote to the same output"
    )
    flag_types.add_switch(
        group,
        "--retry_failed",
        "embed only images that failed in earlier runs with an error that may pass (retryable). With --input, only "
        "those that it matches",
    )
    flag_types.add_switch(
        group,
        "--prune",
        "remove this model's rows from --output_table for images that --input matches and that no longer exist. Rows "
        "stay below a place that could not be listed",
    )
    group.add_argument(
        "--max_pruned",
        type=_RATE,
        default=0.5,
        metavar="RATE",
        help="publish nothing and end with exit code 1 if --prune would remove more than this fraction of the rows of "
        "images that --input matches, as after a bucket or disk that is empty by mistake (default: %(default)s)",
    )


def _add_runs_on(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--preset",
        choices=presets.PRESETS,
        default="local",
        help="runner, workers, container and batch size in one (default: %(default)s, this process)",
    )
    flag_types.add_switch(
        group, "--explain", "print each setting of this command line, its value and its origin, and run nothing"
    )
    group.add_argument(
        "--gpu",
        choices=presets.GPUS,
        metavar="TYPE",
        help=f"GPU of --preset dataflow-gpu: {', '.join(presets.GPUS)} (default: {presets.GPU_DEFAULT})",
    )
    group.add_argument(
        "--gpu_count", type=flag_types.positive, default=1, metavar="N", help="GPUs per worker (default: 1)"
    )
    group.add_argument(
        "--gpu_machine_type",
        metavar="TYPE",
        help="machine type of the workers with a GPU, as in g2-standard-8. --machine_type is for workers without one "
        "(default: by the GPU)",
    )
    flag_types.add_switch(
        group,
        "--separate_gpu_stage",
        "list, read, decode and write on workers without a GPU, and send pixels over the network (default: read and "
        "decode on the workers with a GPU)",
    )


def _add_dry_run(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--dry_run",
        nargs="?",
        const="text",
        choices=("text", "json"),
        help="print the job that Dataflow would get, its stages, its workers and a quote. Submit and change nothing. "
        "json prints the job request itself",
    )
    group.add_argument(
        "--images",
        type=flag_types.positive,
        metavar="N",
        help="with --dry_run, the number of images that the quote is for (default: a million)",
    )
    group.add_argument(
        "--image_bytes",
        type=flag_types.positive,
        metavar="N",
        help="with --dry_run, the average size of an image in bytes, as in 500000 (default: that of the sample)",
    )
    group.add_argument(
        "--images_per_second",
        type=_SPEED,
        metavar="RATE",
        help="with --dry_run, the images per second that one worker embeds, as measured on such a worker (default: "
        "measured on this machine's CPU)",
    )
    group.add_argument(
        "--sample",
        metavar="PATTERN",
        help="with --dry_run, local images like those of the job, to measure decoding with (default: those of the "
        "package)",
    )
    group.add_argument(
        "--prices",
        metavar="FILE",
        help="with --dry_run, a price table (default: pipeline/commands/quote/prices.toml)",
    )
    group.add_argument(
        "--bucket_location",
        metavar="LOCATION",
        help="with --dry_run, where the bucket of --input is, as in us-central1 or EU: a dry run does not ask",
    )


def add_batch_size(group: argparse._ActionsContainer) -> None:
    """Adds the batch size of a command that has no presets."""
    group.add_argument(
        "--batch_size",
        type=flag_types.positive,
        default=BATCH_SIZE_DEFAULT,
        metavar="N",
        help="images per call of the model (default: %(default)s)",
    )


def _by_preset(value: Callable[[str], object]) -> str:
    """Returns the value of the first preset, and the presets that have another one, in words."""
    usual = value(presets.PRESETS[0])
    exceptions = [f"{other} with --preset {preset}" for preset in presets.PRESETS if (other := value(preset)) != usual]
    return ", or ".join([str(usual), *exceptions])


def _run_id(text: str) -> str:
    try:
        check_run_id(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _output_formats(text: str) -> tuple[str, ...]:
    formats = text.split(",")
    if not set(formats) <= set(OUTPUT_FORMATS):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected {', '.join(OUTPUT_FORMATS)}, or {','.join(OUTPUT_FORMATS)} for both"
        )
    return tuple(each for each in OUTPUT_FORMATS if each in formats)


def _max_pixels(text: str) -> int:
    if (pixels := flag_types.positive(text)) > MAX_PIXELS_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r}: expected at most {MAX_PIXELS_LIMIT}, Pillow's own limit")
    return pixels


def _read_concurrency(text: str) -> int:
    if (requests := flag_types.positive(text)) > in_flight.CONCURRENCY_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: expected at most {in_flight.CONCURRENCY_MAX}")
    return requests


def _decode_processes(text: str) -> int:
    if text == presets.CORES:
        return ONE_A_CORE
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0, or {presets.CORES}")
    return int(text)
