"""pipeline.attempts.end: what a job leaves that fails, is interrupted, or never begins."""

import json

import pytest

from pipeline import graph
from pipeline.attempts import claim
from pipeline.commands.frame import FAILED, WRONG
from pipeline.warehouse import tables
from tests.helpers.running import Left
from transforms.storage.stores import gcs


def test_a_job_that_fails_leaves_its_claim_to_the_next(start, instead, photos, tmp_path):
    def build(_):
        raise RuntimeError("no")

    instead(build)
    claim = tmp_path / "out" / "runs" / "night.unfinished"
    for _ in range(2):
        assert start(photos, "--run_id=night").code == 1
        assert json.loads(claim.read_text())["process"] == ""


@pytest.mark.parametrize("end", ["another has the claim", "the job fails", "interrupted"])
def test_staging_tables_and_load_files_are_left_by_no_end(start, leaves, photos, cloud, monkeypatch, end):
    dataset = f"test.staging_{end.replace(' ', '_')}"
    tables.client("test").create_dataset(dataset)
    bucket = dataset.partition(".")[2]
    gcs.client().create_bucket(bucket, project="test")
    during = []

    def staged():
        return [table for table in tables.client("test").list_tables(dataset) if "staging" in table.table_id]

    def build(_, job, *__):
        during.extend(staged())
        publication = job.publication
        name = f"{publication.temp_location}/{publication.staging.embeddings.rpartition('.')[2]}/bq_load/1"
        gcs.client().bucket(bucket).blob(name.removeprefix(f"gs://{bucket}/")).upload_from_string(b"rows")
        raise KeyboardInterrupt if end == "interrupted" else RuntimeError("no")

    def taken(*_):
        during.extend(staged())
        raise ValueError("another process has taken the run meanwhile")

    monkeypatch.setattr(graph, "build", build)
    if end == "another has the claim":
        monkeypatch.setattr(claim, "take", taken)
    flags = photos, f"--output_table={dataset}.images", f"--temp_location=gs://{bucket}/temp"
    if end == "interrupted":
        with pytest.raises(Left):
            start(*flags)
    else:
        assert start(*flags).code == (WRONG if end == "another has the claim" else FAILED)
    assert len(during) == (0 if end == "another has the claim" else 4)
    assert staged() == []
    assert not [blob.name for blob in gcs.client().list_blobs(bucket) if "/loads/" in blob.name]
