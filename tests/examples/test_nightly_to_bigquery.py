"""Two nights of a bucket that changes."""

from google.cloud import bigquery, storage

from examples import nightly_to_bigquery
from tests.helpers import data_generation as data
from tests.helpers.example_docs import first_command, shown


def test_the_second_night_is_printed_as_shown_and_its_repetition_embeds_nothing(cloud, capfd):
    bucket = storage.Client().create_bucket("photographs")
    bigquery.Client(project="test").create_dataset("test.nights")
    argv = first_command(
        nightly_to_bigquery,
        input="gs://photographs/photos/**",
        output_table="test:nights.image_embeddings",
        temp_location="gs://photographs/tmp",
    )
    argv.append("--read_concurrency=4")  # the emulator's queue of connections is short, and who is left out waits
    for seed in range(4):
        bucket.blob(f"photos/{seed}.jpg").upload_from_string(data.jpeg(seed, 24, 32))
    assert nightly_to_bigquery.main([*argv, "--night", "20261201"]) == 0
    assert "nightly-20261201: 4 listed, 0 skipped, 4 embedded, 0 copied, 0 failed, 0 pruned" in capfd.readouterr().out

    bucket.blob("photos/0.jpg").delete()
    bucket.blob("photos/new.jpg").upload_from_string(data.jpeg(4, 24, 32))
    for _ in range(2):
        assert nightly_to_bigquery.main([*argv, "--night", "20261202"]) == 0
        assert (printed := capfd.readouterr().out).endswith(shown(nightly_to_bigquery))
    assert "is complete, nothing was done" in printed
