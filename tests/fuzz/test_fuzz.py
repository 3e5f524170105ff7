"""Each seed and each former finding is read without one, and the fuzzer finds what is broken on purpose."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import seeds, targets
from transforms.images import decoding

ROOT = Path(__file__).parents[2]
TARGETS = targets.all_targets()
# `<target>/<what it was>`: the input of a finding, as the fuzzer shows it.
REGRESSIONS = sorted(path for path in (Path(__file__).parent / "regressions").rglob("*") if path.is_file())

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this platform"
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_no_findings(name):
    target = TARGETS[name]
    for seed in target.seeds():
        target.run(seed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", dict.fromkeys(decoding.FORMATS.values()))
def test_seeds_of_pictures_are_pictures(name):
    for seed in seeds.pictures(name):
        assert decoding.decode(seed[2:], (8, 8)).format == name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_former_findings_are_none(path):
    TARGETS[path.parent.name].execute(path.read_bytes())


def fuzz(*arguments: str, before: str = "") -> subprocess.CompletedProcess:
    code = f"import sys\n{before}\nfrom tests.fuzz.__main__ import main\nsys.exit(main({list(arguments)}))"
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)


# What becomes of a journal whose first byte is great, which no seed's is.
BREAKS = {
    "a value that is none": "1",
    "an error": "{}['key']",
    "a crash": "os.kill(os.getpid(), 11)",
    "time": "sum(range(4 * 10**8)) and None",
    "memory": "b'x' * (300 << 20) and None",
}


@needs_atheris
@pytest.mark.slow
@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS)
def test_a_finding_is_shown_with_the_command_that_reproduces_it(broken):
    before = (
        "import os\nfrom transforms.decoders import journal\n"
        f"journal.read = lambda path: {broken} if open(path, 'rb').read(1) >= b'p' else None"
    )
    done = fuzz("--seconds", "60", "--target", "names", before=before)
    assert done.returncode == 1, done.stdout + done.stderr
    shown = re.search(r"python -m tests\.fuzz (--target names --input [0-9a-f]+)", done.stdout)
    assert shown, done.stdout
    assert fuzz(*shown[1].split(), before=before).returncode != 0
    assert fuzz(*shown[1].split()).returncode == 0


@needs_atheris
@pytest.mark.slow
def test_two_minutes_of_fuzzing_find_nothing():
    done = fuzz("--seconds", "120", "--seed", os.environ.get("FUZZ_SEED", "0"))
    assert done.returncode == 0, f"{done.stdout[-20_000:]}{done.stderr[-2000:]}"
    executions = re.search(r"(\d+) executions, 0 findings", done.stdout)
    assert executions and int(executions[1]) > 20_000  # a tenth of what two slow cores do
