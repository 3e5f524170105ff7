"""pipeline.flags.options: flags, defaults, and each wrong flag in one plain line."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.flags import options
from transforms.decoders.job import ONE_A_CORE
from transforms.images.decode_settings import MAX_PIXELS_DEFAULT
from transforms.models.preprocessing import Choices
from transforms.storage.context import DEFAULT_STORAGE


def test_flags_that_are_left_out_have_defaults():
    config, others = options.parse([])
    assert others == []
    assert config.inputs == (options.SAMPLES,)
    assert config.output == str(Path("output").resolve())
    assert (config.input_format, config.model, config.batch_size, config.preprocessing) == (
        "images",
        "efficientnet_lite0",
        32,
        Choices(),
    )
    assert not config.normalize
    assert (config.max_pixels, config.max_failure_rate) == (MAX_PIXELS_DEFAULT, None)
    assert not config.overwrite and not config.verbose
    assert not config.include_hidden and config.uri_column is None
    assert (config.output_table, config.read_concurrency, config.storage) == (None, 16, DEFAULT_STORAGE)
    assert not (config.reprocess or config.retry_failed or config.prune or config.make_latest)


def test_each_flag_reaches_its_field(tmp_path):
    argv = (
        f"--input {tmp_path}/*.jpg --input gs://b/** --input_format tar --output gs://b/out/ --run_id nightly-1 "
        "--include_hidden "
        "--overwrite --batch_size 8 --precision bfloat16 --image_size 300x200 --resize_mode crop --max_pixels 1000000 "
        "--pixel_mean 0.5,0.4,0.25 --pixel_std 1,0.5,0.25 --channels bgr --interpolation bicubic --crop_fraction 0.875 "
        "--normalize "
        "--max_failure_rate 0.25 --max_pruned 0.75 --verbose "
        "--model_signature image_feature_vector --model_tags train --model_output pooled "
        "--top_classes 3 --output_table my-project:images.all --make_latest --reprocess --read_concurrency 64 "
        "--billing_project payer --allow_private_hosts --no_resume --checkpoint_seconds 7.5 --decode_processes cores "
        "--decode_timeout 5 --output_format parquet,tfrecord --no_html --runner=FlinkRunner "
        "--parallelism 4"
    ).split()
    config, others = options.parse(argv)
    assert others == ["--runner=FlinkRunner", "--parallelism", "4"]
    given = dataclasses.asdict(config)
    given.pop("started_at")
    assert given.pop("runs_on") == dataclasses.asdict(options.RunsOn()) and given.pop("dry_run") is None
    assert given == {
        "inputs": (f"{tmp_path}/*.jpg", "gs://b/**"),
        "input_format": "tar",
        "model": "efficientnet_lite0",
        "model_signature": "image_feature_vector",
        "model_tags": ("train",),
        "model_output": "pooled",
        "output": "gs://b/out",
        "output_table": "my-project.images.all",
        "run_id": "nightly-1",
        "is_named": True,
        "overwrite": True,
        "resume": False,
        "checkpoint_seconds": 7.5,
        "reprocess": True,
        "retry_failed": False,
        "prune": False,
        "make_latest": True,
        "batch_size": 8,
        "precision": "bfloat16",
        "preprocessing": {
            "image_size": (300, 200),
            "mean": (0.5, 0.4, 0.25),
            "std": (1.0, 0.5, 0.25),
            "channels": "bgr",
            "resize_mode": "crop",
            "interpolation": "bicubic",
            "crop_fraction": 0.875,
        },
        "normalize": True,
        "max_pixels": 1_000_000,
        "max_failure_rate": 0.25,
        "max_pruned": 0.75,
        "top_classes": 3,
        "read_concurrency": 64,
        "decode_processes": ONE_A_CORE,
        "decode_timeout": 5.0,
        "storage": {"billing_project": "payer", "allow_private_hosts": True, "url_seconds": 120.0},
        "verbose": True,
        "output_formats": ("tfrecord", "parquet"),
        "vector_type": "float32",
        "writes_page": False,
        "include_hidden": True,
        "uri_column": None,
        "argv": tuple(argv),
        "program": ("python", "run_pipeline.py"),
    }


def test_what_failed_before_may_fail_again():
    assert options.parse(["--output=o", "--retry_failed"])[0].max_failure_rate == 1.0
    assert options.parse(["--output=o", "--retry_failed", "--max_failure_rate=0.5"])[0].max_failure_rate == 0.5


@pytest.mark.parametrize(
    ("flags", "processes"),
    [
        ("", 0),
        ("--decode_processes 3", 3),
        ("--preset dataflow-gpu", ONE_A_CORE),
        ("--preset dataflow-gpu --decode_processes 0", 0),
    ],
)
def test_a_preset_may_have_decoder_processes(flags, processes):
    assert options.parse(flags.split())[0].decode_processes == processes


def test_a_run_goes_on_unless_it_is_told_not_to():
    config, _ = options.parse([])
    assert (config.is_named, config.resume, config.checkpoint_seconds) == (False, True, 60.0)


@pytest.mark.parametrize(
    ("flags", "formats", "vector_type", "record_type"),
    [
        ("", ("tfrecord",), "float32", "float32"),
        ("--output_format tfrecord", ("tfrecord",), "float32", "float32"),
        ("--vector_type float16", ("tfrecord",), "float16", "float16"),
        ("--output_format parquet", ("parquet",), "float32", "float32"),
        ("--output_format parquet --vector_type float16", ("parquet",), "float16", "float32"),
        ("--output_format tfrecord,parquet", ("tfrecord", "parquet"), "float32", "float32"),
        ("--output_format parquet,tfrecord,parquet", ("tfrecord", "parquet"), "float32", "float32"),
    ],
)
def test_formats_of_the_files(flags, formats, vector_type, record_type):
    config, _ = options.parse(flags.split())
    assert (config.output_formats, config.vector_type, config.record_type) == (formats, vector_type, record_type)


@pytest.mark.parametrize("seconds", ["0.5", "0", "-1", "inf", "nan", "a minute"])
def test_checkpoints_are_a_second_apart_or_more(seconds):
    with pytest.raises(ValueError, match=f"argument --checkpoint_seconds: '{seconds}': expected a number"):
        options.parse(["--checkpoint_seconds", seconds])


def test_directories_mean_all_below_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for given, expected in [
        ("photos", f"{tmp_path}/photos/**"),
        ("photos/", f"{tmp_path}/photos/**"),
        ("gs://b/photos/", "gs://b/photos/**"),
        ("gs://b/photos", "gs://b/photos"),
        ("*.jpg", f"{tmp_path}/*.jpg"),
    ]:
        config, _ = options.parse(["--input", given, "--output", "o"])
        assert config.inputs == (expected,)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("project:dataset.table", "project.dataset.table"),
        ("project.dataset.table", "project.dataset.table"),
        ("my-project-1:Data_set.Table-2", "my-project-1.Data_set.Table-2"),
        ("example.com:project:dataset.table", "example.com:project.dataset.table"),
    ],
)
def test_a_table_is_written_as_sql_takes_it(given, expected):
    config, _ = options.parse(["--output_table", given])
    assert (config.output_table, config.output) == (expected, None)
    assert config.inputs == (options.SAMPLES,)


def test_a_table_and_files_from_one_pass():
    config, _ = options.parse(["--input", "gs://b/**", "--output", "gs://b/out", "--output_table", "p1:d.t", "--prune"])
    assert (config.output, config.output_table, config.prune) == ("gs://b/out", "p1.d.t", True)


def test_what_failed_needs_no_input():
    config, _ = options.parse(["--retry_failed", "--output", "gs://b/out"])
    assert (config.inputs, config.retry_failed, config.output) == ((), True, "gs://b/out")
    config, _ = options.parse(["--retry_failed", "--output_table", "p1:d.t", "--input", "gs://b/photos/"])
    assert config.inputs == ("gs://b/photos/**",)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], True),
        (["--input_format=list"], True),
        (["--input_format=tar"], False),
        (["--reprocess"], False),
        (["--reprocess", "--prune"], True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_whether_a_run_asks_what_earlier_runs_have_embedded(flags, expected):
    config, _ = options.parse(["--input=gs://b/**", "--output_table=p1:d.t", *flags])
    assert config.reads_ledger is expected


SWITCHES = ("overwrite", "reprocess", "retry_failed", "prune", "make_latest", "verbose")


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize(
    ("ending", "expected"), [("", True), ("=true", True), ("=True", True), ("=false", False)], ids=repr
)
def test_switches_with_and_without_a_value(name, ending, expected):
    config, others = options.parse(["--output_table", "p1:d.t", f"--{name}{ending}"])
    assert getattr(config, name) is expected and not others
    # To replace a run whose rows are in a table is to embed them again.
    on = {name, *(["reprocess"] if name == "overwrite" else [])} if expected else set()
    assert {other for other in SWITCHES if getattr(config, other)} == on


def test_to_replace_files_the_ledger_needs_not_be_ignored():
    assert not options.parse(["--output", "o", "--input", "x", "--overwrite"])[0].reprocess


def test_run_ids_are_new_each_time():
    ids = {options.parse([])[0].run_id for _ in range(20)}
    assert len(ids) == 20
    # The time, and 48 random bits: runs that begin in one second have a name of their own each.
    assert all(re.fullmatch("[0-9]{8}T[0-9]{6}Z-[0-9a-f]{12}", run_id) for run_id in ids)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("--input x", "nowhere to write: give --output DIR or --output_table PROJECT:DATASET.TABLE"),
        ("--retry_failed", "nowhere to write: give --output DIR or --output_table PROJECT:DATASET.TABLE"),
        ("--prune", "--prune applies to a table: give --output_table PROJECT:DATASET.TABLE too"),
        ("--input x --output o --prune", "--prune applies to a table: give --output_table"),
        ("--input x --output o --make_latest", "--make_latest applies to a table: give --output_table"),
        (
            "--output_table p1:d.t --input x --prune --input_format list",
            "--prune needs a complete listing of the images: expected --input_format images, without --retry_failed",
        ),
        ("--output_table p1:d.t --prune --input_format tar", "--prune needs a complete listing of the images"),
        ("--output_table p1:d.t --prune --retry_failed", "expected --input_format images, without --retry_failed"),
        (
            "--output o --retry_failed --input_format tar",
            "--retry_failed takes its images from earlier runs: expected no --input_format and no --reprocess",
        ),
        ("--output o --retry_failed --reprocess", "expected no --input_format and no --reprocess"),
        ("--output o --input x --uri_column url", "--uri_column applies to lists: give --input_format list too"),
        ("--output_table d.t", "argument --output_table: 'd.t': expected PROJECT:DATASET.TABLE"),
        ("--output_table p1:d", "argument --output_table: 'p1:d': expected PROJECT:DATASET.TABLE"),
        ("--output_table p1:d.t`", "expected PROJECT:DATASET.TABLE"),
        ("--output_table p1:d.t$20260329", "expected PROJECT:DATASET.TABLE"),
        ("--output_table p1:d-e.t", "expected PROJECT:DATASET.TABLE"),
        ("--output_table P1:d.t", "expected PROJECT:DATASET.TABLE"),
        ("--read_concurrency 0", "argument --read_concurrency: '0': expected a whole number from 1"),
        ("--read_concurrency 257", "argument --read_concurrency: '257': expected at most 256"),
        ("--decode_processes all", "argument --decode_processes: 'all': expected a whole number from 0, or cores"),
        ("--decode_timeout 0", "argument --decode_timeout: '0': expected a number of seconds from 1"),
        ("--output_table p1:d.t --prune=yes", "argument --prune: 'yes': expected true or false"),
        ("--billing_project", "argument --billing_project: expected one argument"),
        ("--output a[1]", "expected a directory, without the wildcards"),
        ("--output a/\udcff", r"a/\udcff': expected a path in UTF-8"),
        ("--output o --input a/\udcff/*", r"a/\udcff/*': expected a pattern in UTF-8, with ? for any other byte"),
        ("--batch_size 0", "argument --batch_size: '0': expected a whole number from 1"),
        ("--batch_size many", "argument --batch_size: 'many': expected a whole number from 1"),
        ("--image_size 224", "argument --image_size: '224': expected HEIGHTxWIDTH in pixels, as in 224x224"),
        ("--image_size 0x9", "expected HEIGHTxWIDTH"),
        ("--resize_mode fill", "argument --resize_mode: invalid choice: 'fill'"),
        ("--input_format zip", "argument --input_format: invalid choice: 'zip'"),
        ("--output_format csv", "argument --output_format: 'csv': expected tfrecord, parquet, or tfrecord,parquet for"),
        ("--output_format tfrecord,", "argument --output_format: 'tfrecord,': expected tfrecord, parquet, or"),
        (
            "--output_table p1:d.t --output_format parquet",
            "--output_format applies to files: give --output DIR too",
        ),
        (
            "--output_table p1:d.t --vector_type float16",
            "--vector_type applies to files: give --output DIR too",
        ),
        ("--vector_type int8", "argument --vector_type: invalid choice: 'int8'"),
        ("--max_failure_rate 2", "argument --max_failure_rate: '2': expected a number from 0 to 1"),
        ("--max_failure_rate nan", "expected a number from 0 to 1"),
        ("--max_pixels 999999999999", "expected at most 178956970, Pillow's own limit"),
        ("--run_id ../up", "argument --run_id: '../up': expected letters, digits"),
        ("--input", "argument --input: expected one argument"),
    ],
)
def test_wrong_flags_are_said_in_one_line(argv, said):
    with pytest.raises(ValueError, match="expected|nowhere|invalid|give --") as raised:
        options.parse(argv.split())
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_flags_need_neither_beam_nor_tensorflow_nor_clients():
    code = (
        "import sys; from pipeline import launch; from pipeline.flags import options; "
        "options.parse(['--output_table', 'p1:d.t', '--prune', '--read_concurrency', '8']); "
        "assert not {'tensorflow', 'apache_beam', 'google.cloud.bigquery', 'google.cloud.storage'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
