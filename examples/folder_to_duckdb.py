"""A folder of images to Parquet files, and by SQL in DuckDB the images that look most like one of them.

Here, in a clone, after `make demo`:

    .venv/bin/python -m pip install duckdb
    .venv/bin/python examples/folder_to_duckdb.py --input pipeline/samples/images --output photos-parquet --like cat.jpg

It prints the summary of the run, and then:

    ┌─────────────────────────┬────────┐
    │          image          │ cosine │
    │         varchar         │ float  │
    ├─────────────────────────┼────────┤
    │ cat_animated.webp       │  0.856 │
    │ rocket_exif_rotated.jpg │  0.162 │
    │ astronaut.jpg           │  0.159 │
    └─────────────────────────┴────────┘

It took 3 s of processor time on 2 cores of an AMD EPYC, no accelerator. A second run embeds only new images.

On Dataflow, the files are written into a bucket, and DuckDB reads a copy of them. Without --input it only asks:

    .venv/bin/python run_pipeline.py --input 'gs://BUCKET/photos/**' --output gs://BUCKET/vectors \
        --output_format parquet --preset dataflow --project PROJECT --region REGION --temp_location gs://BUCKET/tmp
    gcloud storage cp --recursive gs://BUCKET/vectors .
    .venv/bin/python examples/folder_to_duckdb.py --output vectors --like cat.jpg
"""

import argparse
import sys

import duckdb

from pipeline.__main__ import main as embed_images

# Of an image that has changed there are two rows. The names of the runs, and so of their files, begin with the time.
NEAREST = """
WITH latest AS (
    SELECT key, embedding FROM read_parquet($files, filename = true)
    QUALIFY row_number() OVER (PARTITION BY key ORDER BY filename DESC) = 1
)
SELECT
    parse_filename(other.key) AS image,
    round(list_cosine_similarity(this.embedding, other.embedding), 3) AS cosine
FROM latest AS this, latest AS other
WHERE parse_filename(this.key) = $like AND other.key != this.key
ORDER BY cosine DESC
LIMIT $top
"""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Embeds images, and shows those that look most like one of them.")
    parser.add_argument("--input", help="directory or glob of images; without it, nothing is embedded")
    parser.add_argument("--output", required=True, help="directory for the Parquet files")
    parser.add_argument("--like", required=True, help="name of the image to compare with, as in cat.jpg")
    parser.add_argument("--top", type=int, default=3, help="number of images to show (default: 3)")
    args, flags = parser.parse_known_args(argv)
    if args.input:
        code = embed_images(["--input", args.input, "--output", args.output, "--output_format", "parquet", *flags])
        if code:
            return code
    files = f"{args.output}/embeddings/*/part-*.parquet"
    print(duckdb.sql(NEAREST, params={"files": files, "like": args.like, "top": args.top}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
