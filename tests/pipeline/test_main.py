"""The command: its verbs, what each form of calling it prints, and how its process ends."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import __main__ as command
from pipeline import launch
from pipeline.attempts import interruption
from pipeline.commands.frame import DONE, FAILED, WRONG
from pipeline.commands.verbs import VERBS
from tests.helpers.running import ROOT, Left


def _returning(monkeypatch, code):
    """Lets the main job return an exit code, and collects the flags that it gets."""
    calls = []
    monkeypatch.setattr(launch, "main", lambda argv: calls.append(list(argv)) or code)
    return calls


@pytest.mark.parametrize("code", [FAILED, interruption.INTERRUPTED, interruption.TERMINATED])
def test_a_job_that_did_not_end_well_ends_the_process_without_its_threads(leaves, monkeypatch, code):
    """Python's exit aborts a process whose threads come back from C++ then: exit code -6, and a second line."""
    _returning(monkeypatch, code)
    monkeypatch.setattr(sys, "argv", ["run_pipeline.py"])
    with pytest.raises(Left) as left:
        command.run_command()
    assert left.value.args == (code,)


@pytest.mark.parametrize("code", [DONE, WRONG])
def test_any_other_end_is_that_of_python(leaves, monkeypatch, code):
    _returning(monkeypatch, code)
    monkeypatch.setattr(sys, "argv", ["run_pipeline.py"])
    with pytest.raises(SystemExit) as left:
        command.run_command()
    assert left.value.code == code


@pytest.mark.parametrize(
    ("argv", "flags"),
    [
        ([], []),
        (["--input", "a"], ["--input", "a"]),
        (["run", "--input", "a"], ["--input", "a"]),
        (["quote", "--input", "a"], ["--dry_run", "--input", "a"]),
    ],
    ids=" ".join,
)
def test_without_a_verb_the_command_runs_the_job(monkeypatch, argv, flags):
    calls = _returning(monkeypatch, DONE)
    assert command.main(argv) == DONE
    assert calls == [flags]


@pytest.mark.parametrize("verb", ["serach", "photos", ""])
def test_what_is_no_verb_is_one_line(capfd, monkeypatch, verb):
    calls = _returning(monkeypatch, DONE)
    assert command.main([verb, "--output", "a"]) == WRONG
    out, err = capfd.readouterr()
    assert (out, calls) == ("", []) and err.startswith(f"run_pipeline.py: {verb!r} is no verb: ")
    assert ("did you mean search?" in err) == (verb == "serach") and err.count("\n") == 1


def test_a_verb_may_be_written_with_underscores(capfd):
    assert command.main(["stage_model", "--nothing"]) == WRONG
    assert capfd.readouterr().err.startswith("stage-model: ")


def _installed(directory: Path) -> Path:
    """Returns a script as pip installs it for the command."""
    script = directory / "embed-images"
    script.write_text(f"#!{sys.executable}\nfrom pipeline.__main__ import run_command\nrun_command()\n")
    script.chmod(0o755)
    return script


@pytest.fixture
def elsewhere(tmp_path):
    """A directory with packages of the same names as this project's, and with two of the sample images."""
    for name in ("pipeline", "transforms"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('another package')\n")
    for image in sorted((ROOT / "pipeline" / "samples" / "images").glob("*"))[:2]:
        shutil.copy(image, tmp_path)
    return tmp_path


def _run(directory, *words):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"} | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([*map(str, words)], cwd=directory, env=env, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["--decode_processes=2"],
        ["--direct_running_mode=multi_processing", "--direct_num_workers=2"],
        ["--runner=FlinkRunner", "--explain"],
    ],
    ids=["decode processes", "worker processes", "Flink's flags"],
)
def test_a_directory_with_packages_of_these_names_disturbs_nothing(elsewhere, tmp_path_factory, flags):
    script = _installed(tmp_path_factory.mktemp("bin"))
    done = _run(elsewhere, script, "--input=*.*", "--output=out", *flags)
    assert done.returncode == 0, done.stderr
    assert "--explain" in flags or "2 images listed = 2 embedded" in done.stdout


@pytest.mark.slow
def test_each_verb_answers_in_such_a_directory(elsewhere, tmp_path_factory):
    script = _installed(tmp_path_factory.mktemp("bin"))
    for verb in VERBS:
        done = _run(elsewhere, script, verb, "--help")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"usage: {script} ")  # it is not on the PATH
        assert "run_pipeline.py" not in done.stdout and "python -m pipeline" not in done.stdout, verb


@pytest.mark.slow
@pytest.mark.parametrize("form", [["run_pipeline.py"], ["-m", "pipeline"]], ids=" ".join)
def test_the_help_lists_the_verbs_in_the_form_of_the_call(form):
    called = " ".join([sys.executable, *form])
    done = _run(ROOT, *called.split(), "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: {called} ")
    for verb in VERBS:
        assert re.search(rf"^  {verb} +[a-z]", done.stdout, re.M), verb
    of_a_verb = _run(ROOT, *called.split(), "search", "--help").stdout
    assert of_a_verb.split(None, len(called.split()) + 2)[:-1] == ["usage:", *called.split(), "search"]
    assert f"\n  {called} search --embeddings" in of_a_verb
