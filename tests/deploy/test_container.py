"""The image, as far as it can be known without a container engine: its recipe, its lock, its context, its commands."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.helpers.running import ROOT

BIN = Path(sys.executable).parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LOCK = ROOT / "deploy" / "requirements.lock"
# Of the packages that are no wheels; pip builds them in the image, which has no compiler.
PURE_PYTHON = {"google-apitools"}
IMAGE = "europe-west1-docker.pkg.dev/my-project/embed-images/embed-images:1"
LAUNCH = {
    "TEMPLATE": "gs://my-temp/templates/embed-images.json",
    "PROJECT": "my-project",
    "REGION": "europe-west1",
    "TEMP_LOCATION": "gs://my-temp/embed-images",
    "INPUT": "gs://my-images/**",
}


def instructions(name: str) -> list[str]:
    """Returns what follows an instruction of the Dockerfile, comments and line breaks removed."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [" ".join(line.split()[1:]) for line in text.splitlines() if line.split()[:1] == [name]]


def pinned() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==(\S+)", LOCK.read_text(), flags=re.MULTILINE))


def hashes(lock: Path) -> dict[str, set[str]]:
    """Returns requirement → the hashes that its files may have."""
    parts = re.split(r"^(?=\S)", lock.read_text(), flags=re.MULTILINE)[1:]
    return {part.split()[0]: set(re.findall(r"--hash=(\S+)", part)) for part in parts}


def uv(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs uv from this project's root; asks the package index only for what uv's cache does not answer."""
    for network in (["--offline"], []):
        done = subprocess.run([BIN / "uv", *network, *arguments], cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            break
    return done


def make(target: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Returns the commands that make would run, in an environment without variables of these names."""
    assignments = [f"{name}={value}" for name, value in variables.items()]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    # -o leaves out the commands that make the environment of the demo.
    return subprocess.run(
        ["make", "--dry-run", "-o", ".venv/demo", target, *assignments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_hadolint_has_nothing_to_say():
    done = subprocess.run([BIN / "hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_workers_start_by_the_boot_program_of_the_beam_that_is_installed():
    from apache_beam.runners.portability import sdk_container_builder
    from apache_beam.version import __version__

    assert instructions("ENTRYPOINT") == [f'["{sdk_container_builder.SDK_CONTAINER_ENTRYPOINT}"]']
    assert f"BEAM={__version__}" in instructions("ARG")
    assert pinned()["apache-beam"] == __version__
    directory = str(Path(sdk_container_builder.SDK_CONTAINER_ENTRYPOINT).parent)
    assert [copy for copy in instructions("COPY") if copy.startswith(f"--from=beam {directory}/boot ")]


def test_all_stages_have_the_python_that_the_lock_is_for():
    (python,) = re.findall(r"^PYTHON=(.*)$", "\n".join(instructions("ARG")), flags=re.MULTILINE)
    (launcher,) = re.findall(r"python(\d+)-template-launcher", DOCKERFILE)
    assert python.replace(".", "") == launcher
    assert [image.split()[0] for image in instructions("FROM")][::2] == [
        "apache/beam_python${PYTHON}_sdk:${BEAM}",
        "python:${PYTHON}-slim-bookworm",
    ]
    assert f"--python-version {python} " in (ROOT / "Makefile").read_text()
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert ruff["target-version"] == f"py{launcher}"


def test_the_launcher_finds_the_command():
    (launcher,) = [copy for copy in instructions("COPY") if copy.startswith("--from=launcher")]
    program = "/opt/google/dataflow/python_template_launcher"  # what a launch's machine starts, in the docs of Google
    assert launcher.split()[1:] == [program, program]
    (place,) = re.findall(r"FLEX_TEMPLATE_PYTHON_PY_FILE=(\S+)", DOCKERFILE)
    (workdir,) = instructions("WORKDIR")
    assert "run_pipeline.py ./" in instructions("COPY")
    assert place == f"{workdir}/run_pipeline.py"


@pytest.mark.slow
def test_the_lock_is_of_the_requirements(tmp_path):
    recipe = make("lock").stdout.replace("\\\n", " ").splitlines()
    (line,) = [line for line in recipe if "pip compile" in line]
    command = line.split()[1:]
    command[command.index("--output-file") + 1] = again = tmp_path / "again.lock"
    constraints = tmp_path / "constraints"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in pinned().items()))
    done = uv(*command, "--constraint", constraints)
    assert done.returncode == 0, f"the requirements have changed: `make lock`\n{done.stderr}"
    expected = hashes(again)
    assert hashes(LOCK).keys() == expected.keys(), "the requirements have changed: `make lock`"
    # Of a version there may be more files by now than when it was pinned.
    assert [name for name, known in hashes(LOCK).items() if not known <= expected[name]] == []


@pytest.mark.slow
def test_a_clean_environment_takes_the_lock_without_a_compiler(tmp_path):
    # Its target is empty, so what is installed for these tests does not count.
    platform = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28", "--target", tmp_path]
    wheels = ["--only-binary", ":all:", *(word for name in PURE_PYTHON for word in ("--no-binary", name))]
    done = uv("pip", "install", "--dry-run", "--require-hashes", *platform, *wheels, "--requirement", LOCK)
    assert done.returncode == 0, done.stderr
    would = set(re.findall(r"^ \+ ([a-z0-9-]+)==", done.stderr, flags=re.MULTILINE))
    assert would == set(pinned())
    assert {"tensorflow", "nvidia-cudnn-cu12", "pillow-heif"} <= would
    assert not would & {"pytest", "ruff", "mypy", "uv"}


def test_cuda_is_what_tensorflow_was_built_with():
    from tensorflow.python.platform import build_info

    built = build_info.build_info
    assert pinned()["nvidia-cuda-runtime-cu12"].startswith(built["cuda_version"].rpartition(".")[0])
    assert pinned()["nvidia-cudnn-cu12"].split(".")[0] == built["cudnn_version"]


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> Path:
    """What a builder is sent: the tracked files that .dockerignore lets through."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    let_through = [rule[1:] for rule in rules if rule[0] == "!"]
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    directory = tmp_path_factory.mktemp("context")
    for name in tracked.stdout.splitlines():
        if any(name == rule or name.startswith(f"{rule}/") for rule in let_through):
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    return directory


def test_the_context_holds_what_is_needed_and_no_more(context):
    for source in (*re.findall(r"source=(\S+?),", DOCKERFILE), "run_pipeline.py"):
        assert (context / source).is_file(), f"{source} is kept out by .dockerignore"
    assert {path.name for path in context.iterdir()} <= {
        *("LICENSE", "README.md", "CHANGELOG.md", "MANIFEST.in", "pyproject.toml", "setup.py", "run_pipeline.py"),
        *("pipeline", "transforms", "models", "deploy"),
    }
    assert [path.name for path in (context / "deploy").iterdir()] == ["requirements.lock"]


@pytest.mark.slow
def test_from_the_context_the_package_installs_and_its_command_answers(context, tmp_path):
    source = shutil.copytree(context, tmp_path / "source")
    (install,) = [run for run in instructions("RUN") if "/source && pip check" in run]
    assert "pip install --no-cache-dir --no-deps /source" in install
    site = tmp_path / "site"
    # Built by the setuptools of this environment: the image fetches its own.
    flags = ["--quiet", "--no-cache-dir", "--no-deps", "--no-build-isolation"]
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, "--target", site, source], check=True)
    assert not (site / "tests").exists() and not (site / "deploy").exists()
    template = tmp_path / "template"
    template.mkdir()
    shutil.copy(context / "run_pipeline.py", template)
    done = subprocess.run(
        [sys.executable, template / "run_pipeline.py", "--input=gs://bucket/**", "--max_failure_rate=2"],
        cwd=template,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "expected a number from 0 to 1" in done.stderr


def test_make_prints_the_commands():
    assert make("image", IMAGE=IMAGE).stdout.split() == ["docker", "build", "--tag", IMAGE, "."]
    baked = make("image", IMAGE=IMAGE, MODEL="models/mine").stdout
    assert baked.split() == ["docker", "build", "--build-arg", "MODEL=models/mine", "--tag", IMAGE, "."]
    assert make("push", IMAGE=IMAGE).stdout == f"docker push {IMAGE}\n"
    made, copied = make("template", IMAGE=IMAGE, TEMPLATE=LAUNCH["TEMPLATE"]).stdout.splitlines()
    assert made == f".venv/bin/python -m deploy.flex_template --image {IMAGE} > .venv/template.json"
    assert copied == f"gcloud storage cp .venv/template.json {LAUNCH['TEMPLATE']}"


def test_make_launches_with_its_variables():
    variables = {"OUTPUT_TABLE": "my-project:images.embeddings", "PARAMETERS": "prune=true|model_tags=a,b"}
    commands = make("launch", **LAUNCH, **variables, JOB="nightly", MAX_WORKERS="3").stdout.replace("\\\n", " ")
    assert commands.split() == [
        *("gcloud", "dataflow", "flex-template", "run", "nightly"),
        "--template-file-gcs-location=gs://my-temp/templates/embed-images.json",
        *("--project=my-project", "--region=europe-west1"),
        *("--temp-location=gs://my-temp/embed-images", "--staging-location=gs://my-temp/embed-images"),
        "--max-workers=3",
        "--parameters='^|^input=gs://my-images/**|output_table=my-project:images.embeddings|prune=true|model_tags=a,b'",
    ]


@pytest.mark.parametrize(
    ("target", "variables", "missing"),
    [
        ("image", {}, "IMAGE"),
        ("push", {}, "IMAGE"),
        ("template", {}, "IMAGE"),
        ("template", {"IMAGE": IMAGE}, "TEMPLATE"),
        *(("launch", {n: v for n, v in LAUNCH.items() if n != missing}, missing) for missing in LAUNCH),
        ("launch", LAUNCH, "OUTPUT"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_make_names_a_missing_variable_in_one_line(target, variables, missing):
    done = make(target, **variables)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"{missing} is not set: expected its value, as in `make {target} {missing}=" in line
