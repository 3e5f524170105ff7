"""pipeline.graph: the steps of a job by what was asked. Nothing runs here."""

import dataclasses
import functools

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import PipelineVisitor
from apache_beam.typehints import typehints

from pipeline import graph
from pipeline.attempts import attempt as attempts
from pipeline.flags import options
from pipeline.runners.traits import RunnerTraits
from pipeline.warehouse.publish import Publication
from pipeline.warehouse.tables import Staging

# As a user reads them in the runner's graph.
# Without --output, the vectors are written too, for an attempt that goes on with this one.
ALWAYS = {"ListImages", "ReadImages", "DecodeImages", "EmbedImages", "Failures", "WriteTFRecords"}
ALWAYS |= {"ComposeReport", "WriteReport"}
ONLY_NEW = {"OnlyNew", "FailuresOfFirsts", "CopyVectors"}
PAGE = {"CollectSample", "WritePage"}
FILES = {"WriteFailures", "PartsOfVectors", "NameFiles", *PAGE}
TABLE = {"LoadEmbeddings", "LoadFailures", "Publish"}

OUTPUT = "--output=/vectors"
OUTPUT_TABLE = "--output_table=p1:d.t"


@pytest.fixture(scope="module")
def built(model):
    """Gives the full names of the steps of a job, by its flags."""

    @functools.cache
    def build(*flags, accelerator=None, continues=False):
        config, _ = options.parse(["--input=/photos/**", *flags])
        pipeline = beam.Pipeline("FnApiRunner", PipelineOptions(["--no_pipeline_type_check"]))  # in half the time
        publication = None
        if config.output_table:
            publication = Publication(config.output_table, Staging.of(config.output_table), "gs://b/temp", False)
        attempt = dataclasses.replace(attempts.of(config, "gs://b/temp"), continues=continues)
        graph.build(pipeline, graph.Job(config, model, attempt, publication), RunnerTraits(accelerator=accelerator))
        names = _Names()
        pipeline.visit(names)
        return names.names

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "WriteBigQuery", _Load)
        yield build


class _Load(beam.PTransform):
    """In the place of Beam's own, of which each takes a second to build."""

    def __init__(self, *_):
        super().__init__()

    def expand(self, collections):
        return collections | beam.Flatten()


class _Names(PipelineVisitor):
    def __init__(self):
        self.names = []

    def enter_composite_transform(self, transform_node):
        self.names.append(transform_node.full_label)

    def visit_transform(self, transform_node):
        self.names.append(transform_node.full_label)


def steps(names):
    return {name.partition("/")[0] for name in names if name}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([OUTPUT], ALWAYS | ONLY_NEW | FILES),
        ([OUTPUT, "--no_html"], ALWAYS | ONLY_NEW | FILES - PAGE),
        ([OUTPUT, "--input_format=list"], ALWAYS | ONLY_NEW | FILES),
        # What is in a shard is not known before it is read.
        ([OUTPUT, "--input_format=tar"], ALWAYS | FILES),
        ([OUTPUT, "--input_format=tfrecord"], ALWAYS | FILES),
        ([OUTPUT_TABLE], ALWAYS | ONLY_NEW | TABLE),
        ([OUTPUT_TABLE, "--input_format=tar"], ALWAYS | TABLE),
        ([OUTPUT_TABLE, "--prune"], ALWAYS | ONLY_NEW | TABLE | {"Prune", "LoadGone"}),
        ([OUTPUT, OUTPUT_TABLE], ALWAYS | ONLY_NEW | FILES | TABLE),
        ([OUTPUT, "--retry_failed"], ALWAYS | ONLY_NEW | FILES | {"ReadRetryable", "ListingFailures"}),
        ([OUTPUT, "--output_format=tfrecord,parquet"], ALWAYS | ONLY_NEW | FILES | {"WriteParquet"}),
        ([OUTPUT, "--output_format=parquet"], ALWAYS - {"WriteTFRecords"} | ONLY_NEW | FILES | {"WriteParquet"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_steps_of_a_job(built, flags, expected):
    assert steps(built(*flags)) == expected


@pytest.mark.parametrize(
    ("flags", "is_read"),
    [([], True), (["--reprocess"], False), (["--prune"], True), (["--reprocess", "--prune"], True)],
    ids=repr,
)
def test_the_ledger_is_read_where_it_says_what_to_skip_or_to_prune(built, flags, is_read):
    names = built(OUTPUT_TABLE, *flags)
    assert any(name.startswith("OnlyNew/ReadLedger") for name in names) is is_read


@pytest.mark.parametrize(
    ("flags", "step"),
    [([], "OnlyNew"), (["--reprocess"], "OnlyNew"), (["--input_format=tar"], "ResumeShards")],
    ids=["images", "reprocess", "tar"],
)
def test_what_an_unfinished_attempt_has_left_is_read(built, flags, step):
    for output in (OUTPUT, OUTPUT_TABLE):
        assert not any("ReadUnfinished" in name or "TakeOver" in name for name in built(output, *flags))
        names = built(output, *flags, continues=True)
        assert any(name.startswith(f"{step}/ReadUnfinished") for name in names)
        assert any(name.startswith(f"{step}/TakeOver") for name in names)


def test_files_are_named_once_the_rows_are_published(built):
    names = built(OUTPUT, OUTPUT_TABLE)
    order = [names.index(name) for name in ("ComposeReport", "Publish", "NameFiles", "WriteReport")]
    assert order == sorted(order)


def test_vectors_leave_the_accelerator_before_they_are_written(built):
    hint = "type:nvidia-l4;count:1"
    gpu = ["--preset=dataflow-gpu", OUTPUT]
    assert "FromAccelerator" not in steps(built(*gpu, accelerator=hint))
    assert "FromAccelerator" in steps(built(*gpu, "--separate_gpu_stage", accelerator=hint))
    assert "FromAccelerator" not in steps(built(*gpu, "--separate_gpu_stage"))


@pytest.mark.slow
@pytest.mark.parametrize("in_packs", [False, True])
@pytest.mark.parametrize(
    "flags", [(), ("--input_format=tar",), ("--decode_processes=2",)], ids=["files", "tar", "processes"]
)
def test_no_record_is_pickled(model, flags, in_packs):
    """The coder of a collection without a type pickles the records that cross to another stage."""
    config, _ = options.parse(["--input=/photos/**", OUTPUT, *flags])
    pipeline = beam.Pipeline("FnApiRunner")
    attempt = dataclasses.replace(attempts.of(config), continues=True)
    graph.build(pipeline, graph.Job(config, model, attempt), RunnerTraits(in_packs=in_packs))
    untyped = _Untyped()
    pipeline.visit(untyped)
    # Reports and tallies are few, and predictions cross to no other stage.
    of_the_job = ("ComposeReport/", "NameFiles/", "WriteReport/", "EmbedImages/RunInference/")
    inside_of_beam = (
        "CoGroupByKeyImpl/",
        "ReshufflePerKey/",
        "/SameKey",
        "/SameListed",
        "/SameDigest",
        "/SameFirst",
        "/Done",
    )
    own = {
        name
        for name in untyped.names
        if not name.startswith(of_the_job) and not any(part in name for part in inside_of_beam)
    }
    assert own == set()


class _Untyped(PipelineVisitor):
    """The names of the transforms that have an output whose elements have any type."""

    def __init__(self):
        self.names = set()

    def visit_transform(self, transform_node):
        if any(output.element_type is typehints.Any for output in transform_node.outputs.values()):
            self.names.add(transform_node.full_label)
