"""One night: what is new in a bucket goes into a BigQuery table, and what is gone leaves it.

With a bucket and a dataset of yours, in a clone, after `make demo` and `gcloud auth application-default login`:

    .venv/bin/python examples/nightly_to_bigquery.py --input 'gs://BUCKET/photos/**' \
        --output_table PROJECT:DATASET.image_embeddings --temp_location gs://BUCKET/tmp

It prints the summary of the run, and what the tables say about the night. This is its second night, over four images
in its test, which has emulators in the place of both services:

    nightly-20261202: 4 listed, 3 skipped, 1 embedded, 0 copied, 0 failed, 1 pruned
    test.nights.image_embeddings_latest: 4 images

It took 6 s of processor time on 2 cores of an AMD EPYC, no accelerator. A night that is given again is complete,
and embeds nothing. A night that was killed goes on.

On Dataflow add:

    --preset dataflow --project PROJECT --region REGION
"""

import argparse
import datetime
import sys

from google.cloud import bigquery

from pipeline.__main__ import main as embed_images

NIGHT = """
SELECT listed, skipped, embedded, reused + duplicate AS copied, failed, pruned
FROM `{table}_runs` WHERE run_id = @run_id
"""
LATEST = "SELECT COUNT(*) AS images FROM `{table}_latest`"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Keeps a BigQuery table in step with a bucket of images.")
    parser.add_argument("--output_table", required=True, metavar="PROJECT:DATASET.TABLE")
    parser.add_argument("--night", default=f"{datetime.datetime.now(datetime.UTC):%Y%m%d}", help="default: today, UTC")
    args, flags = parser.parse_known_args(argv)
    run_id = f"nightly-{args.night}"
    code = embed_images(["--output_table", args.output_table, "--run_id", run_id, "--prune", *flags])
    if code:
        return code
    table = args.output_table.replace(":", ".")
    client = bigquery.Client(project=args.output_table.partition(":")[0])
    of_run = bigquery.QueryJobConfig(query_parameters=[bigquery.ScalarQueryParameter("run_id", "STRING", run_id)])
    (night,) = client.query(NIGHT.format(table=table), of_run).result()
    (latest,) = client.query(LATEST.format(table=table)).result()
    print(f"{run_id}: {', '.join(f'{count} {name}' for name, count in night.items())}")
    print(f"{table}_latest: {latest.images} images")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
