"""The command's flags, and their cross-checks: argv → `EmbedConfig`. No Beam, so that `--help` answers at once."""

import argparse
import dataclasses
import datetime
import math
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from pipeline import flags, presets
from pipeline.command import Parser
from transforms.concurrent import in_flight
from transforms.encoding.examples import Written
from transforms.formats import INPUT_FORMATS
from transforms.images import decoding
from transforms.models import catalog
from transforms.models.spec import PRECISIONS, ModelSpec

SAMPLES = str(Path(__file__).parent / "samples" / "images" / "*")
SAMPLES_OUTPUT = "output"

_EPILOG = """\
examples:
  python run_pipeline.py
      embed the sample images into ./output
  python run_pipeline.py --input 'photos/**.jpg' --output vectors
      every .jpg below photos/, on all cores of this machine
  python run_pipeline.py --input uris.csv --input_format list --output gs://bucket/vectors
      the images that a list names, the vectors into a bucket
  python run_pipeline.py --input 'gs://bucket/photos/**' --output_table project:dataset.images \\
      --temp_location gs://bucket/tmp --prune
      every night: what is new in the bucket into the table, what is gone out of it
  python run_pipeline.py --input 'gs://bucket/photos/**' --output gs://bucket/vectors \\
      --preset dataflow-gpu --project my-project --region us-central1 --temp_location gs://bucket/tmp \\
      --sdk_container_image REGION-docker.pkg.dev/my-project/images/embed:1 --dry_run --images 10000000
      what that job would be on Dataflow, and cost; without --dry_run: run it

Beam's own flags (--runner, --direct_num_workers, --project, --region, --temp_location, …) are passed on to Beam:
https://beam.apache.org/documentation/programming-guide/#configuring-pipeline-options

exit code: 0 done; 1 the job failed, or more images than --max_failure_rate allows; 2 wrong flags or inputs, said
before any work starts; 130 interrupted.
"""


@dataclasses.dataclass(frozen=True)
class RunsOn:
    """Where it runs, as asked; Beam's own flags say the rest. The help of each flag says what it means."""

    preset: str = "local"
    explain: bool = False
    gpu: str | None = None
    gpu_count: int = 1
    gpu_machine_type: str | None = None
    separate_gpu_stage: bool = False


@dataclasses.dataclass(frozen=True)
class DryRun:
    """What a dry run is to show, as `text` or `json`, and what its quote is reckoned from."""

    shown_as: str
    images: int | None = None
    image_bytes: int | None = None
    images_per_second: float | None = None
    sample: str | None = None
    prices: str | None = None


@dataclasses.dataclass(frozen=True)
class EmbedConfig:
    """What was asked, checked as far as flags can tell; the help of each flag says what it means."""

    inputs: tuple[str, ...]
    input_format: str
    model: str
    model_signature: str | None
    model_tags: tuple[str, ...] | None
    output: str | None
    output_table: str | None
    run_id: str
    overwrite: bool
    reprocess: bool
    retry_failed: bool
    prune: bool
    make_latest: bool
    batch_size: int
    precision: str
    image_size: tuple[int, int] | None
    resize_mode: str
    max_pixels: int
    max_failure_rate: float
    top_classes: int
    read_concurrency: int
    billing_project: str | None
    verbose: bool
    started_at: datetime.datetime
    runs_on: RunsOn = RunsOn()
    dry_run: DryRun | None = None

    def written(self, model: ModelSpec) -> Written:
        """Returns what all records of the run have in common."""
        return Written(model.name, model.digest, model.dimension, model.classes, self.top_classes)


def parse(argv: Sequence[str]) -> tuple[EmbedConfig, list[str]]:
    """Returns what was asked and the flags that are not this project's, which are Beam's or nobody's.

    Raises:
      ValueError: if a flag is wrong, in one line that says what was expected.
      SystemExit: after `--help`.
    """
    given, others = _parser().parse_known_args(argv)
    if not given.output and not given.output_table:
        if given.input or given.retry_failed:
            raise ValueError("nowhere to write: give --output DIR or --output_table PROJECT:DATASET.TABLE")
        given.output = SAMPLES_OUTPUT
    if given.output and re.search(r"[*?\[]", given.output):
        raise ValueError(f"--output {given.output!r}: expected a directory, without the wildcards * ? [")
    _check_together(given)
    batch_size = given.batch_size or int(presets.settings(given.preset)["batch_size"])
    config = EmbedConfig(
        inputs=tuple(flags.pattern(p) for p in given.input or ([] if given.retry_failed else [SAMPLES])),
        input_format=given.input_format,
        model=given.model,
        model_signature=given.model_signature,
        model_tags=given.model_tags,
        output=flags.absolute(given.output) if given.output else None,
        output_table=given.output_table,
        run_id=given.run_id or _new_run_id(),
        overwrite=given.overwrite,
        # The table knows what is to be replaced; the files of it are gone by then.
        reprocess=given.reprocess or (given.overwrite and bool(given.output_table)),
        retry_failed=given.retry_failed,
        prune=given.prune,
        make_latest=given.make_latest,
        batch_size=batch_size,
        precision=given.precision,
        image_size=given.image_size,
        resize_mode=given.resize_mode,
        max_pixels=given.max_pixels,
        max_failure_rate=given.max_failure_rate,
        top_classes=given.top_classes,
        read_concurrency=given.read_concurrency,
        billing_project=given.billing_project,
        verbose=given.verbose,
        started_at=datetime.datetime.now(datetime.UTC),
        runs_on=RunsOn(**{field.name: getattr(given, field.name) for field in dataclasses.fields(RunsOn)}),
        dry_run=_dry_run(given),
    )
    return config, others


def _dry_run(given: argparse.Namespace) -> DryRun | None:
    about = [field.name for field in dataclasses.fields(DryRun) if field.name != "shown_as"]
    if given.dry_run:
        return DryRun(given.dry_run, **{name: getattr(given, name) for name in about})
    if stray := [name for name in about if getattr(given, name) is not None]:
        raise ValueError(f"--{stray[0]} is about a quote: give --dry_run too")
    return None


def _check_together(given: argparse.Namespace) -> None:
    """Raises ValueError where flags contradict each other."""
    for flag in ("prune", "make_latest"):
        if getattr(given, flag) and not given.output_table:
            raise ValueError(f"--{flag} is about a table: give --output_table PROJECT:DATASET.TABLE too")
    if given.prune and (given.input_format != "images" or given.retry_failed):
        raise ValueError(
            "--prune needs to see all that is there: expected --input_format images, without --retry_failed"
        )
    if given.retry_failed and (given.input_format != "images" or given.reprocess):
        raise ValueError(
            "--retry_failed takes its images from earlier runs: expected no --input_format and no --reprocess"
        )
    if given.preset != "dataflow-gpu":
        asked = {"gpu": given.gpu, "gpu_count": given.gpu_count != 1, "gpu_machine_type": given.gpu_machine_type}
        for flag, value in (asked | {"separate_gpu_stage": given.separate_gpu_stage}).items():
            if value:
                raise ValueError(
                    f"--{flag} is about Dataflow's GPU workers: give --preset dataflow-gpu; elsewhere a GPU that "
                    "TensorFlow finds is used without it"
                )


def flags_described() -> list[argparse.Action]:
    """Returns this project's flags but for --help: names, help, default and choices."""
    return [action for action in _parser()._actions if action.dest != "help"]


def known_flags() -> list[str]:
    """Returns this project's flags, as one writes them."""
    return [flag for action in _parser()._actions for flag in action.option_strings]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="run_pipeline.py",
        usage="python run_pipeline.py [--input PATTERN]... [--output DIR] [flags] [Beam's own flags]",
        description="Turns images into a table of vectors: list, read, decode, embed, write.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to embed")
    what.add_argument(
        "--input",
        action="append",
        metavar="PATTERN",
        help="images: a glob (** crosses directories) or a directory, local or gs://; repeatable, an image that "
        "several patterns match is taken once (default: the sample images of the package)",
    )
    what.add_argument(
        "--input_format",
        choices=INPUT_FORMATS,
        default="images",
        help="what the patterns match: images; list, text or .csv files of URIs; tfrecord, files of tf.Examples with "
        "image/encoded and perhaps image/key; tar, shards in webdataset layout (default: %(default)s)",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--model",
        default=catalog.DEFAULT,
        metavar="HANDLE",
        help=f"a name: {', '.join((*catalog.BUNDLED, *catalog.HUB))}; or a URL of tfhub.dev or kaggle.com, a short "
        "Kaggle handle, a SavedModel directory, a .tar.gz of one, a .keras file, local or gs:// (default: %(default)s)",
    )
    add_model_flags(how)
    add_batch_size(how, None)
    how.add_argument(
        "--precision",
        choices=(*PRECISIONS, "auto"),
        default="float32",
        help="in which the model computes: bfloat16 for CPUs that have it (AVX512-BF16, AMX), float16 for GPUs; auto "
        "takes it where it is faster on this machine and keeps vectors at a cosine of 0.999 to float32 on the sample "
        "images. Another precision is another digest: its vectors are not mixed with others (default: %(default)s)",
    )
    how.add_argument(
        "--max_pixels",
        type=_max_pixels,
        default=decoding.MAX_PIXELS_DEFAULT,
        metavar="N",
        help=f"refuse an image whose header says more pixels than this, at most {decoding.MAX_PIXELS_LIMIT} "
        "(default: %(default)s)",
    )
    how.add_argument(
        "--max_failure_rate",
        type=_rate,
        default=1.0,
        metavar="RATE",
        help="end with exit code 1 when more than this part of the images failed, 0.01 for one in a hundred; "
        "everything written is kept (default: %(default)s, never)",
    )
    how.add_argument(
        "--top_classes",
        type=flags.positive,
        default=5,
        metavar="N",
        help="with a classifier, how many of the best classes a record gets beside the vector (default: %(default)s)",
    )
    how.add_argument(
        "--read_concurrency",
        type=_read_concurrency,
        default=in_flight.CONCURRENCY_DEFAULT,
        metavar="N",
        help="images that a worker process reads at once, whatever the number of its threads: reading from a bucket is "
        f"nearly all waiting; at most {in_flight.CONCURRENCY_MAX} (default: %(default)s, about 7 times as fast as one "
        "at a time where a request takes 20 ms)",
    )
    how.add_argument(
        "--billing_project",
        metavar="PROJECT",
        help="the Google Cloud project that pays for reading gs:// buckets with requester pays, as in my-project-123 "
        "(default: none, the bucket's owner pays)",
    )
    where = parser.add_argument_group("where to")
    where.add_argument(
        "--output",
        metavar="DIR",
        help="embeddings/, failures/, runs/ and schema.pbtxt go there, local or gs:// "
        f"(default: ./{SAMPLES_OUTPUT} for the sample images; needed for your own)",
    )
    where.add_argument(
        "--output_table",
        metavar="PROJECT:DATASET.TABLE",
        type=flags.table,
        help="a BigQuery table, made where there is none; …_failures, …_runs and the view …_latest stand beside it. "
        "Load files go to --temp_location, which is --output/.temp where that is gs://",
    )
    flags.add_switch(
        where,
        "--make_latest",
        "let the view …_latest show this run's model from now on (default: only where there is no view yet)",
    )
    where.add_argument(
        "--run_id",
        metavar="NAME",
        type=_run_id,
        help="names the run; given again, a run that is complete is left as it is, and one that was killed is done "
        "anew (default: time and a random tail)",
    )
    flags.add_switch(where, "--overwrite", "replace a run of the same --run_id; with a table, --reprocess too")
    new = parser.add_argument_group("only what is new: images that are known by key, version and model are not read")
    flags.add_switch(new, "--reprocess", "embed everything, whatever earlier runs wrote to the same output")
    flags.add_switch(
        new,
        "--retry_failed",
        "take just the images that failed in earlier runs in a way that may pass (retryable), of those that "
        "--input matches, if given",
    )
    flags.add_switch(
        new,
        "--prune",
        "remove rows of this model from --output_table whose images --input matches and that are gone",
    )
    _add_runs_on(parser.add_argument_group("where it runs (docs/dataflow.md); Beam's own flags win over a preset"))
    other = parser.add_argument_group("other")
    flags.add_switch(other, "--verbose", "show the logs of Beam and TensorFlow, and whole tracebacks")
    return parser


def _add_runs_on(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--preset",
        choices=presets.PRESETS,
        default="local",
        help="runner, workers, container and batch size in one (default: %(default)s, this process)",
    )
    flags.add_switch(
        parser, "--explain", "print what this command line comes to, and where each value is from; no more"
    )
    parser.add_argument(
        "--gpu",
        choices=presets.GPUS,
        metavar="TYPE",
        help=f"the GPU of --preset dataflow-gpu: {', '.join(presets.GPUS)} (default: nvidia-l4)",
    )
    parser.add_argument("--gpu_count", type=flags.positive, default=1, metavar="N", help="GPUs a worker (default: 1)")
    parser.add_argument(
        "--gpu_machine_type",
        metavar="TYPE",
        help="the machine that the GPU is in, as in g2-standard-8; --machine_type is that of workers without one "
        "(default: by the GPU)",
    )
    flags.add_switch(
        parser,
        "--separate_gpu_stage",
        "list, read, decode and write on workers without a GPU, and send pixels over the network (default: read and "
        "decode on the GPU's workers)",
    )
    parser.add_argument(
        "--dry_run",
        nargs="?",
        const="text",
        choices=("text", "json"),
        help="submit nothing, touch nothing: print the job that Dataflow would get, its stages, workers and a quote; "
        "json has the job request itself",
    )
    parser.add_argument(
        "--images", type=flags.positive, metavar="N", help="with --dry_run, images to reckon with (default: a million)"
    )
    parser.add_argument(
        "--image_bytes",
        type=flags.positive,
        metavar="N",
        help="with --dry_run, bytes of an image on average, as in 500000 (default: those of the sample)",
    )
    parser.add_argument(
        "--images_per_second",
        type=_speed,
        metavar="RATE",
        help="with --dry_run, images that one worker embeds a second, as measured on such a worker (default: measured "
        "here, on this machine's CPU)",
    )
    parser.add_argument(
        "--sample",
        metavar="PATTERN",
        help="with --dry_run, local images like those to come, which are decoded to measure (default: those of the "
        "package)",
    )
    parser.add_argument(
        "--prices",
        metavar="FILE",
        help="with --dry_run, a price table like pipeline/quote/prices.toml, which is the default",
    )


def add_model_flags(parser: argparse._ActionsContainer) -> None:
    """Adds the flags that say how a model is used, which make up its digest."""
    parser.add_argument(
        "--image_size",
        type=flags.image_size,
        metavar="HxW",
        help="height and width of the images that the model sees, in pixels, as in 224x224 (default: the model's own)",
    )
    parser.add_argument(
        "--resize_mode",
        choices=decoding.RESIZE_MODES,
        default="stretch",
        help="stretch to the size, crop the centre, or pad with black (default: %(default)s)",
    )
    parser.add_argument(
        "--model_signature",
        metavar="NAME",
        help="the signature of a SavedModel to call, as in image_feature_vector (default: the model itself where it is "
        "callable, else serving_default; for a TF1 Hub module default)",
    )
    parser.add_argument(
        "--model_tags",
        metavar="TAG,TAG",
        type=_tags,
        help="the graph variant of a TF1 Hub module, as in train (default: none, the variant for inference)",
    )


def add_batch_size(parser: argparse._ActionsContainer, default: int | None = 32) -> None:
    """Adds the flag for the size of a batch; without a default it is the preset's."""
    parser.add_argument(
        "--batch_size",
        type=flags.positive,
        default=default,
        metavar="N",
        help=f"images a call of the model (default: {default or '32, and 64 with --preset dataflow-gpu'})",
    )


def _new_run_id() -> str:
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def _run_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected letters, digits, dots, dashes and underscores")
    return text


def _tags(text: str) -> tuple[str, ...]:
    return tuple(tag for tag in text.split(",") if tag)


def _max_pixels(text: str) -> int:
    if (pixels := flags.positive(text)) > decoding.MAX_PIXELS_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r}: expected at most {decoding.MAX_PIXELS_LIMIT}, Pillow's own limit")
    return pixels


def _read_concurrency(text: str) -> int:
    if (requests := flags.positive(text)) > in_flight.CONCURRENCY_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: expected at most {in_flight.CONCURRENCY_MAX}")
    return requests


def _speed(text: str) -> float:
    if not 0 < (speed := flags.number(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")
    return speed


def _rate(text: str) -> float:
    rate = flags.number(text)
    if not 0 <= rate <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 1")
    return rate
