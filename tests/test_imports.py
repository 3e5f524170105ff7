"""The architecture: imports point one way, by folders, and heavy libraries stay where they are needed."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import transforms

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in ("pipeline", "transforms")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name != "__init__.py"
}
# What lies in transforms/ itself: the modules of the public PTransforms.
STAGES = {module for module in MODULES if module.startswith("transforms.") and module.count(".") == 1}
# What each folder may import of the others. All may import `elements`.
MAY_IMPORT = {
    "transforms.elements": (),
    "transforms.concurrent": (),
    "transforms.images": (),
    "transforms.storage": ("transforms.concurrent",),
    "transforms.decoders": ("transforms.images", "transforms.storage", "transforms.concurrent"),
    "transforms.models": ("transforms.images", "transforms.storage", "transforms.concurrent"),
    "transforms.encoding": ("transforms.models", "transforms.storage"),
    "transforms.lists": ("transforms.encoding", "transforms.storage"),
    "transforms.output": ("transforms.encoding", "transforms.models", "transforms.storage"),
}
NEVER_BEAM = ("transforms.images", "transforms.encoding", "transforms.models")


@functools.cache
def imports(module: str, *, top_level_only: bool = False) -> set[str]:
    """Returns what a module imports at run time, as dotted names; imports under TYPE_CHECKING are none."""
    names: set[str] = set()

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if top_level_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(MODULES[module].read_text()))
    return names


def under(names, *packages):
    return {name for name in names if any(name == package or name.startswith(f"{package}.") for package in packages)}


def reached(module: str, *, top_level_only: bool) -> set[str]:
    """Returns everything that importing a module brings along: its imports, theirs, and so on."""
    names: set[str] = set()
    waiting = [module]
    while waiting:
        new = imports(waiting.pop(), top_level_only=top_level_only) - names
        names |= new
        waiting += new & MODULES.keys()
    return names


def in_folder(folder: str) -> list[str]:
    return [module for module in MODULES if module.startswith(f"{folder}.")]


def test_transforms_never_import_pipeline():
    assert {module for module in in_folder("transforms") if under(imports(module), "pipeline", "run_pipeline")} == set()


def test_stages_never_import_each_other():
    assert {module for module in STAGES if under(imports(module), *(STAGES - {module}))} == set()


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_what_lies_below_it(folder):
    below = {folder, "transforms.elements", *MAY_IMPORT[folder]}
    for module in in_folder(folder):
        own = {name for name in imports(module) if name in MODULES and name.startswith("transforms.")}
        assert {name for name in own if not under([name], *below)} == set(), module


def test_each_folder_of_transforms_has_a_rule():
    folders = {f"transforms.{path.name}" for path in (ROOT / "transforms").iterdir() if (path / "__init__.py").exists()}
    assert folders == set(MAY_IMPORT)


def test_no_module_imports_itself_in_a_circle():
    below = {module: imports(module, top_level_only=True) & MODULES.keys() for module in MODULES}
    while lowest := {module for module, names in below.items() if not names}:
        below = {module: names - lowest for module, names in below.items() if module not in lowest}
    assert not below


def test_only_the_graph_knows_the_order_of_the_stages():
    """By their PTransforms: the ledger and the checks know of several stages where these write.

    The graph writes the parts of vectors itself, and names them in a step of its own.
    """

    def joined(module):
        names = (name.rpartition(".") for name in under(imports(module), *STAGES))
        return {stage for stage, _, name in names if name in transforms.__all__}

    assert joined("pipeline.graph") == STAGES - {
        "transforms.skip",
        "transforms.write_parquet",
        "transforms.write_tfrecord",
    }
    assert {module for module in MODULES if len(joined(module)) >= 3} == {"pipeline.graph"}


@pytest.mark.parametrize("folder", NEVER_BEAM)
def test_folders_that_never_import_beam(folder):
    assert {m for m in in_folder(folder) if under(reached(m, top_level_only=False), "apache_beam")} == set()


def test_tensorflow_is_imported_by_models_alone():
    importers = {module for module in MODULES if under(imports(module), "tensorflow", "tf_keras", "tensorflow_hub")}
    assert {module for module in importers if not module.startswith("transforms.models.")} == set()


def test_no_other_module_brings_tensorflow_along():
    others = [module for module in MODULES if not module.startswith("transforms.models.")]
    assert {m for m in others if under(reached(m, top_level_only=True), "tensorflow", "tf_keras")} == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (
            ["pipeline.flags.options", "pipeline.launch"],
            ["apache_beam", "tensorflow", "google.cloud.bigquery", "google.cloud.storage"],
        ),
        (
            [
                "pipeline.commands.finetune.run",
                "pipeline.commands.import_checkpoint",
                "transforms.encoding.vectors",
                "transforms.images.decoding",
                "transforms.models.engines.loading",
            ],
            ["apache_beam", "tensorflow"],
        ),
        (["pipeline.graph", "pipeline.commands.finetune.inputs", *sorted(STAGES)], ["tensorflow"]),
        (["transforms.models.engines.portable_model"], ["onnx", "onnxruntime", "tensorflow"]),
    ],
    ids=["options", "without Beam", "graph", "portable models"],
)
def test_what_an_import_brings_along(modules, absent):
    code = f"import sys, {', '.join(modules)}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


_LOCAL_RUN = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.startswith({absent!r}):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from pipeline.launch import main
sys.exit(main(["--output", {output!r}]))
"""


@pytest.mark.slow
def test_a_local_run_needs_no_client_of_google_and_no_tensorflow(tmp_path):
    """Beam imports Google's clients where they are installed, so `sys.modules` does not tell."""
    absent = (
        "google.api_core",
        "google.auth",
        "google.cloud",
        "kagglehub",
        "tensorflow.",
        "tensorflow_hub",
        "tf_keras",
    )
    code = _LOCAL_RUN.format(absent=absent, output=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "13 images listed = 13 embedded + 0 failed" in done.stdout


@pytest.mark.slow
def test_the_models_that_need_no_beam_include_training():
    code = "import sys, transforms.models.slim.reusable, transforms.models.training.classifier; "
    code += "sys.exit('apache_beam' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_public_names_are_found_where_they_are_used():
    exported = [name for names in transforms._MODULES.values() for name in names]
    assert sorted(exported) == transforms.__all__
    for module, names in transforms._MODULES.items():
        assert {getattr(transforms, name).__module__ for name in names} == {f"transforms.{module}"}
    with pytest.raises(AttributeError, match="no attribute 'ReadImage'"):
        _ = transforms.ReadImage


@pytest.mark.slow
def test_a_type_checker_knows_the_public_names(tmp_path):
    program = tmp_path / "own.py"
    program.write_text("".join(f"import transforms\nreveal_type(transforms.{name})\n" for name in transforms.__all__))
    checked = subprocess.run([sys.executable, "-m", "mypy", program], cwd=ROOT, capture_output=True, text=True)
    revealed = re.findall(r"Revealed type is \"def \(.*\) -> transforms\.[\w.]+\.(\w+)\"", checked.stdout)
    assert revealed == transforms.__all__, checked.stdout


def test_the_page_of_a_run_is_imported_only_where_it_is_written():
    """A run with --no_html imports nothing of it."""
    modules = "page", "statistics_file", "write_page", "sampling", "stored_sample", "earlier_runs", "try_again"
    page = [f"pipeline.report.{module}" for module in modules]
    assert {
        module
        for module in MODULES
        if not under({module}, *page) and under(imports(module, top_level_only=True), *page)
    } == set()
