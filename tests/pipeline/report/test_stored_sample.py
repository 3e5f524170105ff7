"""pipeline.report.stored_sample: the sample of a run, taken from its files, is that which the run collected."""

import dataclasses

import apache_beam as beam
import pytest

from pipeline.report import sampling, stored_sample
from pipeline.report.page.sampled_images import MAX_SAMPLE
from tests.helpers.collecting import collect
from tests.helpers.earlier_runs import MODEL, embedding
from tests.helpers.reporting import compose
from transforms.elements.records import DecodedBlock, Failure
from transforms.failures import WriteFailures
from transforms.write_parquet import WriteParquet
from transforms.write_tfrecord import WriteTFRecords

pytestmark = pytest.mark.slow

IMAGES = 2 * MAX_SAMPLE + 10


@pytest.mark.parametrize("output_format", ["tfrecord", "parquet"])
def test_what_a_run_collects_is_in_its_files(tmp_path, model, output_format):
    vectors = [embedding(b"/%d.jpg" % number) for number in range(IMAGES)]
    failed = [Failure(b"/f%d.jpg" % number, "read", "OSError", "late\n", True) for number in range(3)]
    write = WriteTFRecords if output_format == "tfrecord" else WriteParquet

    def build(root):
        of_vectors, of_failures = root | "V" >> beam.Create(vectors), root | "F" >> beam.Create(failed)
        _ = (of_vectors,) | write(str(tmp_path), "r", MODEL)
        _ = of_failures | WriteFailures(str(tmp_path), "r")
        blocks = root | "B" >> beam.Create([]).with_output_types(DecodedBlock)
        return {"collected": root | sampling.CollectSample([of_vectors], blocks, of_failures)}

    found, _ = collect(build)
    in_run = dict(found["collected"])
    report = dataclasses.replace(compose(model, f"--output={tmp_path}"), output_formats=[output_format])
    stored = stored_sample.collected(str(tmp_path), report)
    assert {kind: sorted(elements) for kind, elements in stored.items()} == {
        kind: sorted(elements) for kind, elements in in_run.items()
    }
    assert len(stored["vectors"]) == MAX_SAMPLE
    assert [image.message for image in sampling.failures(stored)] == ["late\n"] * 3


def test_no_more_are_held_than_twice_a_sample(tmp_path, model, monkeypatch):
    held = []

    def nsmallest(count, elements):
        held.append(len(elements))
        return sorted(elements)[:count]

    monkeypatch.setattr(stored_sample.heapq, "nsmallest", nsmallest)
    elements = [sampling.of_vector(b"/%d.jpg" % number, b"") for number in range(10 * MAX_SAMPLE)]
    monkeypatch.setattr(stored_sample, "_vectors", lambda *_: elements)
    stored = stored_sample.collected(str(tmp_path), compose(model, f"--output={tmp_path}"))
    assert stored == {"vectors": sorted(element for _, element in elements)[:MAX_SAMPLE]}
    assert max(held) <= 2 * MAX_SAMPLE


def test_a_failure_without_a_stage_is_shown_too(tmp_path, model):
    file = tmp_path / "failures" / "r" / "part-00000-of-00001.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text('{"key": "/a.jpg", "retryable": true}\n')
    stored = stored_sample.collected(str(tmp_path), compose(model, f"--output={tmp_path}", "--run_id=r"))
    assert [(failure.key, failure.stage) for failure in sampling.failures(stored)] == [(b"/a.jpg", "")]


def test_a_run_without_files(tmp_path, model):
    assert stored_sample.collected(str(tmp_path), compose(model, f"--output={tmp_path}")) == {}
