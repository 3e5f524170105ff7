"""The architecture: imports point one way, and heavy libraries stay where they are needed."""

import ast
import json
import operator
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path.relative_to(ROOT)
    for package in ("pipeline", "transforms")
    for path in (ROOT / package).rglob("*.py")
    if path.name != "__init__.py"
)
NEED_TENSORFLOW = tuple(
    f"transforms.models.{name}"
    for name in (
        "export",
        "frozen",
        "hub",
        "image_batches",
        "opening",
        "reusable",
        "tensorflow_engine",
        "training",
    )
)
# Beside the stages, what must do without Beam.
PURE = {
    f"transforms.{name}"
    for name in (
        "images",
        "fast_jpeg",
        "labels",
        "examples",
        "vectors",
        "tfrecord",
        "gcs",
        "gcs_listing",
        "name_ranges",
        "in_flight",
    )
}
STAGES = {
    f"transforms.{name}"
    for name in ("list", "skip", "copies", "read", "decode", "embed", "write_tfrecord", "write_bigquery", "failures")
}


def name_of(path):
    return ".".join(path.with_suffix("").parts)


def imports(path, top_level_only=False):
    """Returns the modules that a file imports at run time; those under TYPE_CHECKING are not."""
    found = set()

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if top_level_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse((ROOT / path).read_text()))
    return found


def under(found, *packages):
    return {name for name in found if any(name == p or name.startswith(f"{p}.") for p in packages)}


@pytest.mark.parametrize("path", [p for p in MODULES if p.parts[0] == "transforms"], ids=str)
def test_transforms_never_import_pipeline(path):
    assert not under(imports(path), "pipeline", "run_pipeline")


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p) in STAGES], ids=str)
def test_stages_never_import_each_other(path):
    assert not under(imports(path), *(STAGES - {name_of(path)}))


def test_only_the_graph_knows_the_order_of_the_stages():
    """By their PTransforms: the ledger and the checks know of several stages just where they write."""

    def joined(path):
        names = (name.rpartition(".") for name in under(imports(path), *STAGES))
        return {module for module, _, name in names if name[0].isupper() and not name.isupper()}

    assert joined(Path("pipeline/graph.py")) == STAGES - {"transforms.skip"}
    assert {name_of(p) for p in MODULES if len(joined(p)) >= 3} == {"pipeline.graph"}


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES if name_of(p) in PURE or "models" in p.parts],
    ids=str,
)
def test_pure_modules_never_import_beam(path):
    assert not under(imports(path), "apache_beam", "transforms.records")


@pytest.mark.parametrize("path", [p for p in MODULES if "networks" not in p.parts], ids=str)
def test_tensorflow_is_imported_where_models_are_loaded(path):
    if name_of(path) not in NEED_TENSORFLOW:
        assert not under(imports(path, top_level_only=True), "tensorflow", "tf_keras", *NEED_TENSORFLOW)


# A module, and what its import must not bring along.
LIGHT_IMPORTS = sorted(
    [
        ("transforms.list", "tensorflow"),
        ("transforms.read", "tensorflow"),
        ("transforms.decode", "tensorflow"),
        ("transforms.skip", "tensorflow"),
        ("transforms.copies", "tensorflow"),
        ("transforms.write_tfrecord", "tensorflow"),
        ("transforms.write_bigquery", "tensorflow"),
        ("pipeline.options", "apache_beam"),
        ("pipeline.options", "google.cloud.bigquery"),
        ("pipeline.options", "google.cloud.storage"),
        ("pipeline.graph", "tensorflow"),
        ("pipeline.import_checkpoint", "tensorflow"),
        ("pipeline.import_checkpoint", "apache_beam"),
        ("transforms.encoding.examples", "apache_beam"),
        ("transforms.images.decoding", "apache_beam"),
        ("transforms.models.engines.loading", "apache_beam"),
        ("transforms.models.slim.reusable", "apache_beam"),
        ("transforms.models.training.train", "apache_beam"),
        ("transforms.encoding.vectors", "apache_beam"),
        ("transforms.encoding.vectors", "tensorflow"),
        ("pipeline.finetune.inputs", "tensorflow"),
        ("pipeline.finetune.run", "apache_beam"),
        ("pipeline.launch", "apache_beam"),
    ],
    key=operator.itemgetter(1),
)
# One process for each library: what one of several modules imports shows as well as what one alone does.
_IMPORT_ALL = """
import importlib, json, sys
for module, absent in json.loads(sys.argv[1]):
    importlib.import_module(module)
    if absent in sys.modules:
        sys.exit(f"{module} imports {absent}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("library", sorted({absent.partition(".")[0] for _, absent in LIGHT_IMPORTS}))
def test_what_an_import_brings_along(library):
    rows = [(module, absent) for module, absent in LIGHT_IMPORTS if absent.partition(".")[0] == library]
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL, json.dumps(rows)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert rows and done.returncode == 0, done.stderr


def test_there_is_something_to_check():
    assert len(MODULES) > 20 and {name_of(p) for p in MODULES} >= STAGES
