"""The queries of deploy/sql, as they are: run on the emulator and compared with numpy, or checked where it cannot."""

import itertools
import re
from collections.abc import Iterator

import numpy as np
import pytest
import sqlglot
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from sqlglot import expressions

from tests.deploy.pictures import (
    DOCUMENT,
    FILES,
    FIRST_RUN,
    NEW,
    OLD,
    PYTHON,
    RUNS,
    SECOND_RUN,
    THIRD_RUN,
    Row,
    Warehouse,
    body,
    components,
    distance,
    documented_parameters,
    header,
    image,
    nearest,
    pictures,
    vectors,
)
from tests.helpers.emulators import bigquery_emulator

pytestmark = pytest.mark.slow

# Two ways to the same double: the sums of products are added in another order.
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bigquery.Client]:
    directory = tmp_path_factory.mktemp("bigquery")
    with bigquery_emulator(directory, directory) as environment:
        yield bigquery.Client(
            project="test",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": environment["BIGQUERY_EMULATOR_HOST"]},
        )


@pytest.fixture(scope="module")
def warehouse(client: bigquery.Client) -> Warehouse:
    """The pictures; what tests of this fixture write is derived from them, never in their table."""
    warehouse = Warehouse(client, "pictures")
    warehouse.load("image_embeddings", pictures())
    warehouse.load("image_embeddings_runs", RUNS)
    return warehouse


@pytest.fixture
def fresh(client: bigquery.Client, request: pytest.FixtureRequest) -> Warehouse:
    return Warehouse(client, request.node.name)


# What is true of each file.


@pytest.mark.parametrize("name", [file.name for file in FILES])
def test_header_documents_the_parameters(name):
    used = set(re.findall(r"(?<!@)@(\w+)", body(name)))
    assert documented_parameters(name).keys() == used
    command = header(name)[header(name).index("--   bq query") :]
    shown = re.findall(r"--parameter=(\w+):(\w*):", command)
    # The tool takes a parameter without a type as a STRING.
    assert {key: kind or "STRING" for key, kind in shown} == documented_parameters(name)
    assert f"< deploy/sql/{name}" in command
    assert "Cost: " in header(name)


@pytest.mark.parametrize("name", [file.name for file in FILES])
def test_no_query_is_built_from_text(name):
    assert not re.search(r"\b(EXECUTE\s+IMMEDIATE|FORMAT|CONCAT)\b|\|\||\$\{|%s", body(name), flags=re.IGNORECASE)


@pytest.mark.parametrize("name", [file.name for file in FILES])
def test_tables_are_named_alike(name):
    """`sed s/image_embeddings/…/` must rename all of them: a name without it would be another table."""
    tables = {
        table.name
        for statement in sqlglot.parse(body(name), "bigquery")
        for table in statement.find_all(expressions.Table)
    }
    local = {
        cte.alias for statement in sqlglot.parse(body(name), "bigquery") for cte in statement.find_all(expressions.CTE)
    }
    assert all(table.startswith("image_embeddings") for table in tables - local - {"better_names", ""}), tables


def test_every_file_is_explained():
    text = DOCUMENT.read_text()
    assert [file.name for file in FILES if f"deploy/sql/{file.name}" not in text] == []


# Search.


@pytest.mark.parametrize("digest", [OLD, NEW])
@pytest.mark.parametrize("key", ["gs://bucket/cats/0.jpg", "gs://bucket/ships/4.jpg"])
def test_brute_force_finds_the_nearest(warehouse, key, digest):
    table = vectors(digest)
    neighbours = warehouse.rows("search_brute_force.sql", key=key, digest=digest, neighbours=7)
    assert [row["key"] for row in neighbours] == nearest(key, table)[:7]
    expected = [distance(table[key], table[row["key"]]) for row in neighbours]
    np.testing.assert_allclose([row["distance"] for row in neighbours], expected, **CLOSE)


def test_brute_force_says_that_the_image_is_not_there(warehouse):
    with pytest.raises(GoogleAPICallError, match="expected key and digest"):
        warehouse.run("search_brute_force.sql", key="gs://bucket/none.jpg", digest=OLD, neighbours=7)


def test_search_by_index_parses_and_is_as_documented():
    """Not executed: the emulator has no VECTOR_SEARCH. Its argument names are those of the reference."""
    query = sqlglot.parse_one(body("search.sql"), "bigquery")
    search = query.find(expressions.VectorSearch)
    arguments = {argument.this.name: argument.expression for argument in search.find_all(expressions.Kwarg)}
    assert arguments.keys() == {"top_k", "distance_type", "options"}
    assert arguments["distance_type"].name == "COSINE"
    assert arguments["options"].is_string  # a parameter is refused: "options_value is a literal"
    base, query_rows = search.this.this, search.args["query_table"].this
    for select in (base, query_rows):
        assert [part for part, value in select.args.items() if value] == ["expressions", "from_", "where"]
        assert "embedding" not in {column.name for column in select.args["where"].find_all(expressions.Column)}
    # Of what is searched, an index allows columns alone; where the search starts may be any query.
    assert all(isinstance(expression, expressions.Column) for expression in base.expressions)
    assert "embedding" in {column.name for column in base.expressions}
    assert [expression.alias for expression in query_rows.expressions] == ["embedding"]


def test_search_by_index_starts_from_the_images_vector(searchable):
    """The part of the query that the emulator can execute; it has no VECTOR_SEARCH."""
    query = sqlglot.parse_one(body("search.sql"), "bigquery")
    start = query.find(expressions.VectorSearch).args["query_table"].this.sql("bigquery")

    def vector(**values: str) -> list[Row]:
        parameters = [bigquery.ScalarQueryParameter(name, "STRING", value) for name, value in values.items()]
        return [dict(row) for row in searchable.execute(start, parameters).result()]

    key = "gs://bucket/cats/0.jpg"
    assert vector(key=key, digest=OLD) == [{"embedding": vectors()[key].tolist()}]
    for wrong in ({"key": key, "digest": OLD[:12]}, {"key": key, "digest": NEW}, {"key": "none", "digest": OLD}):
        with pytest.raises(GoogleAPICallError, match="expected key and digest"):
            vector(**wrong)


def test_search_by_index_filters_by_and_returns_what_the_index_stores():
    """A filter on another column would apply after the search, and another output column cost a join."""
    query = sqlglot.parse_one(body("search.sql"), "bigquery")
    base = query.find(expressions.VectorSearch).this.this
    needed = {column.name for column in base.find_all(expressions.Column)} - {"embedding"}
    index = re.fullmatch(
        r"CREATE VECTOR INDEX IF NOT EXISTS \w+\nON (\w+)\((\w+)\)\nSTORING\(([\w, ]+)\)\n"
        r"OPTIONS\(index_type = 'IVF', distance_type = 'COSINE'\);",
        body("vector_index.sql").strip(),
    )
    assert index, "the grammar of CREATE VECTOR INDEX: name, table(column), STORING, OPTIONS"
    assert set(index[3].split(", ")) == needed
    assert index[1] == base.find(expressions.Table).name
    columns = {
        definition.name
        for definition in sqlglot.parse_one(body("search_table.sql"), "bigquery").find_all(expressions.ColumnDef)
    }
    assert needed | {index[2]} <= columns


def test_search_table_follows_the_table(fresh):
    rows = [row for row in pictures() if row["model_digest"] == OLD][:6]
    fresh.load("image_embeddings", rows)
    fresh.run("search_table.sql")
    fresh.run("search_table.sql")  # again: it stays

    def refresh(digest: str) -> dict[str, list[float]]:
        fresh.run("search_table_refresh.sql", digest=digest)
        searched = fresh.select("SELECT key, embedding, model_digest FROM image_embeddings_search")
        assert {row["model_digest"] for row in searched} <= {digest}
        return {row["key"]: row["embedding"] for row in searched}

    assert refresh(OLD) == {row["key"]: row["embedding"] for row in rows}
    unchanged = fresh.run("search_table_refresh.sql", digest=OLD)
    assert unchanged.num_dml_affected_rows == 0

    # One changed, one gone, one new, and one under another model.
    fresh.execute("DELETE FROM image_embeddings WHERE key IN ('gs://bucket/cats/1.jpg', 'gs://bucket/cats/2.jpg')")
    changed = image("cats/1", np.arange(16.0), run=SECOND_RUN)
    new = image("birds/1", np.arange(16.0)[::-1], run=SECOND_RUN)
    other = image("cats/0", np.arange(24.0), digest=NEW, run=SECOND_RUN)
    fresh.load("image_embeddings", [changed, new, other])
    unchanged_rows = [row for row in rows if row["key"] not in ("gs://bucket/cats/1.jpg", "gs://bucket/cats/2.jpg")]
    assert refresh(OLD) == {row["key"]: row["embedding"] for row in [*unchanged_rows, changed, new]}
    assert refresh(NEW) == {other["key"]: other["embedding"]}


# Digests that the table does not have.


@pytest.fixture(scope="module")
def searchable(client: bigquery.Client) -> Warehouse:
    """The pictures, and all tables that scripts write; the tests of this fixture leave them as they are."""
    warehouse = Warehouse(client, "searchable")
    warehouse.load("image_embeddings", pictures())
    warehouse.load("image_embeddings_runs", RUNS)
    warehouse.run("search_table.sql")
    warehouse.run("search_table_refresh.sql", digest=OLD)
    warehouse.run("near_duplicates.sql", **DUPLICATES)
    return warehouse


# Scripts that take a digest, with values that they work with.
VALUES = {
    "drift.sql": {"digest": OLD, "before_run": FIRST_RUN, "after_run": SECOND_RUN},
    "migrate_agreement.sql": {"old_digest": OLD, "new_digest": NEW, "sample": 3, "neighbours": 3},
    "migrate_coverage.sql": {"old_digest": OLD, "new_digest": NEW, "examples": 3},
    "migrate_delete.sql": {"old_digest": OLD, "new_digest": NEW},
    "near_duplicates.sql": {"digest": OLD, "threshold": 0.02, "bands": 2, "band_bits": 8, "window": 5},
    "search_brute_force.sql": {"key": "gs://bucket/cats/0.jpg", "digest": OLD, "neighbours": 3},
    "search_table_refresh.sql": {"digest": OLD},
}


def test_each_script_that_takes_a_digest_is_tried_without_it():
    takes_digest = {file.name for file in FILES if any("digest" in name for name in documented_parameters(file.name))}
    assert takes_digest == {*VALUES, "search.sql"}  # which has a test of its own


@pytest.mark.parametrize("digest", [OLD[:12], "f" * 64], ids=["beginning", "unknown"])
@pytest.mark.parametrize(
    ("script", "parameter"),
    [(script, parameter) for script, values in VALUES.items() for parameter in values if "digest" in parameter],
)
def test_a_digest_that_the_table_does_not_have_fails_and_changes_nothing(searchable, script, parameter, digest):
    before = contents(searchable)
    with pytest.raises(GoogleAPICallError, match="64 hex digits"):
        searchable.run(script, **VALUES[script] | {parameter: digest})
    assert contents(searchable) == before


def test_an_empty_table_does_not_empty_the_search_table(fresh):
    fresh.load("image_embeddings", pictures()[:3])
    fresh.run("search_table.sql")
    fresh.run("search_table_refresh.sql", digest=OLD)
    fresh.execute("DELETE FROM image_embeddings WHERE TRUE")
    with pytest.raises(GoogleAPICallError, match="64 hex digits"):
        fresh.run("search_table_refresh.sql", digest=OLD)
    assert len(fresh.select("SELECT key FROM image_embeddings_search")) == 3


def contents(warehouse: Warehouse) -> dict[str, list[str]]:
    """Returns the rows of each table, in an order of their own."""
    tables = [table.table_id for table in warehouse.client.list_tables(warehouse.dataset)]
    return {table: sorted(map(repr, warehouse.select(f"SELECT * FROM {table}"))) for table in tables}


# Near duplicates.

# A pair at the threshold is missed with probability (1 - (1 - 0.064)^8)^24 = 3e-10.
DUPLICATES = {"digest": OLD, "threshold": 0.02, "bands": 24, "band_bits": 8, "window": 50}


def test_near_duplicates_are_the_pairs_below_the_threshold(warehouse):
    warehouse.run("near_duplicates.sql", **DUPLICATES)
    pairs = warehouse.select("SELECT * FROM image_embeddings_near_duplicates")
    table, digests = vectors(), {row["key"]: row["sha256"] for row in pictures() if row["model_digest"] == OLD}
    copies = {
        ("gs://bucket/backup/cats/0.jpg", "gs://bucket/cats/0.jpg"),
        ("gs://bucket/backup/hills/5.jpg", "gs://bucket/hills/5.jpg"),
    }
    # Of equal bytes only the least key is compared.
    compared = sorted(table.keys() - {copy for _, copy in copies})
    near = {(a, b) for a in compared for b in compared if a < b and distance(table[a], table[b]) <= 0.02}
    assert len(near) == 4  # the cat, its small and grey one with each other; the dog and its small one
    assert {(row["key"], row["other_key"]) for row in pairs if row["same_bytes"]} == copies
    assert {(row["key"], row["other_key"]) for row in pairs if not row["same_bytes"]} == near
    assert all((digests[row["key"]] == digests[row["other_key"]]) == row["same_bytes"] for row in pairs)
    expected = [distance(table[row["key"]], table[row["other_key"]]) for row in pairs]
    np.testing.assert_allclose([row["distance"] for row in pairs], expected, **CLOSE)


def test_near_duplicate_groups_are_connected_pairs(warehouse):
    warehouse.run("near_duplicates.sql", **DUPLICATES)
    pairs = warehouse.select("SELECT key, other_key FROM image_embeddings_near_duplicates")
    expected = components({(row["key"], row["other_key"]) for row in pairs})
    groups = warehouse.run_script("near_duplicate_groups.sql")
    assert {row["key"]: row["group_key"] for row in groups} == expected
    assert [row["images"] for row in groups] == [4, 4, 4, 4, 2, 2, 2, 2]
    assert {row["key"] for row in groups if row["same_bytes"]} == {
        f"gs://bucket/{key}.jpg" for key in ("cats/0", "backup/cats/0", "hills/5", "backup/hills/5")
    }


def test_groups_of_any_shape_are_found(fresh):
    """Random graphs and a long chain whose keys are in no order: the hardest for handing the least key on."""
    random = np.random.default_rng(7)
    names = [f"{number:03}" for number in range(300)]
    ends = random.integers(0, 200, size=(120, 2))
    chain = random.permutation(range(200, 300))
    pairs = {tuple(sorted((names[a], names[b]))) for a, b in [*ends, *itertools.pairwise(chain)] if a != b}
    fresh.execute(
        "CREATE TABLE image_embeddings_near_duplicates"
        " (key STRING, other_key STRING, distance FLOAT64, same_bytes BOOL)"
    )
    rows = [{"key": a, "other_key": b, "distance": 0.01, "same_bytes": False} for a, b in sorted(pairs)]
    fresh.load("image_embeddings_near_duplicates", rows)
    groups = fresh.run_script("near_duplicate_groups.sql")
    assert {row["key"]: row["group_key"] for row in groups} == components(pairs)


def test_a_crowded_bucket_costs_no_more_than_the_window(fresh):
    """60 nearly equal images share all buckets: 1,770 pairs, of which each is compared with the next 3 alone."""
    random = np.random.default_rng(5)
    centre = random.normal(size=16)
    fresh.load("image_embeddings", [image(f"{n:02}", centre + random.normal(scale=1e-4, size=16)) for n in range(60)])
    fresh.run("near_duplicates.sql", **DUPLICATES | {"window": 3, "bands": 2})
    pairs = fresh.select("SELECT key, other_key FROM image_embeddings_near_duplicates")
    assert len(pairs) == 59 + 58 + 57
    assert {row["group_key"] for row in fresh.run_script("near_duplicate_groups.sql")} == {"gs://bucket/00.jpg"}


def test_hyperplanes_have_no_preferred_direction(fresh):
    """The documented probability of a miss rests on it: a bit differs with probability angle/pi."""
    random = np.random.default_rng(6)
    first = random.normal(size=32)
    aside = random.normal(size=32)
    aside -= (aside @ first) / (first @ first) * first
    aside *= np.linalg.norm(first) / np.linalg.norm(aside)
    angle = 0.5  # radians, a cosine distance of 0.12
    rows = [image("a", first), image("b", np.cos(angle) * first + np.sin(angle) * aside)]
    fresh.load("image_embeddings", rows)
    sql = body("near_duplicates.sql")
    hashes = sql[sql.index("WITH") : sql.index(",\n  placed AS")]
    values = [
        bigquery.ScalarQueryParameter("digest", "STRING", OLD),
        bigquery.ScalarQueryParameter("bands", "INT64", 1000),
        bigquery.ScalarQueryParameter("band_bits", "INT64", 1),
    ]
    buckets = fresh.execute("\n".join([hashes, "SELECT key, band, bucket FROM hashes"]), values).result()
    table = {(row["key"], row["band"]): row["bucket"] for row in buckets}
    differing = sum(table["gs://bucket/a.jpg", band] != table["gs://bucket/b.jpg", band] for band in range(1000))
    # Of 1,000 fair bits: 159 expected, a standard deviation of 11.6.
    assert abs(differing - 1000 * angle / np.pi) < 3 * 11.6


# Drift.


def test_drift_compares_the_parts_of_the_table(warehouse):
    (drift,) = warehouse.rows("drift.sql", digest=OLD, before_run=FIRST_RUN, after_run=SECOND_RUN)
    parts = {
        run: np.array([row["embedding"] for row in pictures() if row["run_id"] == run and row["model_digest"] == OLD])
        for run in (FIRST_RUN, SECOND_RUN)
    }
    before, after = parts[FIRST_RUN], parts[SECOND_RUN]
    assert (drift["rows_before"], drift["rows_after"], drift["rows_of_unknown_runs"]) == (33, 12, 0)
    assert (drift["listed_before"], drift["listed_after"]) == (34, 46)
    assert (drift["failure_rate_before"], drift["failure_rate_after"]) == (0.03, 0.02)
    mean = before.mean(axis=0)
    np.testing.assert_allclose(drift["cosine_of_means"], 1 - distance(mean, after.mean(axis=0)), **CLOSE)
    for name, part in (("distances_before", before), ("distances_after", after)):
        distances = [distance(vector, mean) for vector in part]
        # The emulator's quantiles are the values themselves, as BigQuery's are on so few rows.
        expected = np.quantile(distances, [0, 0.25, 0.5, 0.75, 1], method="inverted_cdf")
        np.testing.assert_allclose(drift[name], expected, **CLOSE)


def test_drift_leaves_out_later_and_counts_unknown_runs(fresh):
    fresh.load("image_embeddings_runs", RUNS)
    runs = [FIRST_RUN, FIRST_RUN, SECOND_RUN, THIRD_RUN, "lost"]
    fresh.load("image_embeddings", [image(str(n), np.eye(5)[n] + 1, run=run) for n, run in enumerate(runs)])
    (drift,) = fresh.rows("drift.sql", digest=OLD, before_run=FIRST_RUN, after_run=SECOND_RUN)
    assert (drift["rows_before"], drift["rows_after"], drift["rows_of_unknown_runs"]) == (2, 1, 1)
    (drift,) = fresh.rows("drift.sql", digest=OLD, before_run=SECOND_RUN, after_run=THIRD_RUN)
    assert (drift["rows_before"], drift["rows_after"], drift["rows_of_unknown_runs"]) == (3, 1, 1)


@pytest.mark.parametrize("parameter", ["before_run", "after_run"])
def test_drift_says_that_a_run_is_not_there(warehouse, parameter):
    with pytest.raises(GoogleAPICallError, match=f"expected {parameter}"):
        warehouse.run("drift.sql", **{"digest": OLD, "before_run": FIRST_RUN, "after_run": SECOND_RUN, parameter: "no"})


# Migration.


def test_coverage_counts_the_gaps(warehouse):
    (coverage,) = warehouse.rows("migrate_coverage.sql", old_digest=OLD, new_digest=NEW, examples=3)
    assert coverage == {
        "both_models": 43,
        "other_bytes": 1,
        "old_only": 1,
        "new_only": 0,
        "old_only_keys": ["gs://bucket/hills/9.jpg"],
        "other_bytes_keys": ["gs://bucket/cats/5.jpg"],
    }
    (turned,) = warehouse.rows("migrate_coverage.sql", old_digest=NEW, new_digest=OLD, examples=0)
    assert (turned["old_only"], turned["new_only"], turned["other_bytes_keys"]) == (0, 1, [])


def test_agreement_is_the_overlap_of_neighbours(warehouse):
    left_out = {"gs://bucket/hills/9.jpg", "gs://bucket/cats/5.jpg"}
    old, new = ({k: v for k, v in vectors(digest).items() if k not in left_out} for digest in (OLD, NEW))
    overlap = {key: len({*nearest(key, old)[:5]} & {*nearest(key, new)[:5]}) / 5 for key in old}
    assert 0.3 < np.mean(list(overlap.values())) < 0.9  # or a wrong query could hardly be told

    agreement = warehouse.rows("migrate_agreement.sql", old_digest=OLD, new_digest=NEW, sample=1000, neighbours=5)
    assert {row["key"]: row["overlap"] for row in agreement} == pytest.approx(overlap)
    assert [row["overlap"] for row in agreement] == sorted(row["overlap"] for row in agreement)
    np.testing.assert_allclose([row["mean_overlap"] for row in agreement], np.mean(list(overlap.values())), **CLOSE)

    some = warehouse.rows("migrate_agreement.sql", old_digest=OLD, new_digest=NEW, sample=10, neighbours=5)
    assert len(some) == 10
    assert {row["key"]: row["overlap"] for row in some} == pytest.approx(
        {row["key"]: overlap[row["key"]] for row in some}
    )
    itself = warehouse.rows("migrate_agreement.sql", old_digest=OLD, new_digest=OLD, sample=10, neighbours=5)
    assert {row["overlap"] for row in itself} == {1.0}


def test_delete_leaves_what_has_no_successor(fresh):
    fresh.load("image_embeddings", pictures())
    count = "SELECT model_digest, COUNT(*) AS images FROM image_embeddings GROUP BY model_digest ORDER BY model_digest"
    with pytest.raises(GoogleAPICallError, match="expected old_digest and new_digest to differ"):
        fresh.run("migrate_delete.sql", old_digest=OLD, new_digest=OLD)
    with pytest.raises(GoogleAPICallError, match="64 hex digits"):
        fresh.run("migrate_delete.sql", old_digest=OLD, new_digest="none")
    assert [row["images"] for row in fresh.select(count)] == [45, 44]
    fresh.run("migrate_delete.sql", old_digest=OLD, new_digest=NEW)
    assert [row["images"] for row in fresh.select(count)] == [1, 44]
    remaining = fresh.select("SELECT key, model_digest FROM image_embeddings")
    assert [row["key"] for row in remaining if row["model_digest"] == OLD] == ["gs://bucket/hills/9.jpg"]


def test_the_documented_switch_shows_one_model(fresh):
    fresh.load("image_embeddings", pictures())
    statement = re.search(r"```sql\n(CREATE OR REPLACE VIEW .*?)```", DOCUMENT.read_text(), flags=re.DOTALL)[1]
    statement = statement.replace("PROJECT.DATASET", f"test.{fresh.dataset}")
    for digest in (OLD, NEW, OLD):
        fresh.execute(statement.replace(NEW, digest))
        latest = fresh.select("SELECT key, model_digest FROM image_embeddings_latest")
        assert {row["model_digest"] for row in latest} == {digest}
        assert sorted(row["key"] for row in latest) == sorted(vectors(digest))


# The document.


def as_text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(as_text(item) for item in value)
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("True", "true").replace("False", "false")


def as_table(rows: list[Row]) -> str:
    """Rows as Markdown; a single one upright, as a table of its columns."""
    if len(rows) == 1:
        rows = [{"column": column, "value": value} for column, value in rows[0].items()]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(map(as_text, row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- ", "|---").replace("--- |", "---|")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("search_brute_force.sql", 4),
        ("near_duplicates.sql", 8),
        ("drift.sql", 1),
        ("migrate_coverage.sql", 1),
        ("migrate_agreement.sql", 3),
    ],
)
def test_documented_results_are_those_of_the_documented_command(warehouse, name, shown):
    text = DOCUMENT.read_text()
    command = re.search(rf"ask ([^`]*?)< deploy/sql/{name}", text)[1]
    types = documented_parameters(name)
    values = {key: PYTHON[types[key]](value) for key, value in re.findall(r"--parameter=(\w+):\w*:(\S+)", command)}
    rows = warehouse.rows(name, **values)
    if name == "near_duplicates.sql":
        rows = warehouse.run_script("near_duplicate_groups.sql")
    assert as_table(rows[:shown]) in text
