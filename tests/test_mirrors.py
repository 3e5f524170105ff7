"""Tests mirror modules: whoever opens a module knows where its tests are.

The tests of `pipeline/report/tally.py` are in `tests/pipeline/report/test_tally.py`. pytest tells test files apart by
their names alone, and modules of `pipeline/commands/finetune` have the names of modules elsewhere. So the names of
their tests begin with the folder's, as `test_finetune_options.py` does. The tests of `run.py` there, which is the
command itself, are `test_finetune.py`.
"""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
MODULES = [
    path.relative_to(ROOT)
    for package in ("pipeline", "transforms")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py")
]


def mirror(module: Path) -> Path:
    """Returns the test file of a module, both relative: `pipeline/graph.py` → `pipeline/test_graph.py`."""
    name = module.stem
    if module.parent == Path("pipeline/commands/finetune"):
        name = "finetune" if name == "run" else f"finetune_{name}"
    return module.with_name(f"test_{name}.py")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_has_tests_at_its_mirrored_path(module):
    path = TESTS / mirror(module)
    assert path.is_file(), f"expected tests of {module} in tests/{mirror(module)}"
    functions = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert any(name.startswith("test_") for name in functions), f"tests/{mirror(module)} has no test"


def test_names_of_test_files_are_unique():
    counts = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, count in counts.items() if count > 1] == []
