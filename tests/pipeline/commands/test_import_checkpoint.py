"""pipeline.commands.import_checkpoint: the command, in a process of its own and in this one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.commands import import_checkpoint
from tests.helpers import formula_weights, slim_checkpoints, tiny_network
from transforms.models.slim import checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A checkpoint of Inception V2 in the V1 format, as released in 2016."""
    arrays = formula_weights.weights(formula_weights.variables("inception_v2")) | {"global_step": np.int64(1)}
    return slim_checkpoints.write(
        tmp_path_factory.mktemp("released") / "inception_v2.ckpt", arrays, slim_checkpoints.V1
    )


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A checkpoint of `TinyNetwork`, which takes the place of Inception V2 in this process."""
    monkeypatch.setattr(checkpoint, "network_class", lambda name: tiny_network.TinyNetwork)
    return slim_checkpoints.write(tmp_path / "tiny.ckpt", tiny_network.weights(), slim_checkpoints.V2)


def command(*flags):
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "import-checkpoint", *map(str, flags)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def run(checkpoint_path, output, *flags):
    return import_checkpoint.main(
        ["--network", "inception_v2", "--checkpoint", str(checkpoint_path), "--output", str(output), *flags]
    )


def test_a_released_checkpoint_becomes_a_model(released, tmp_path):
    done = command("--network", "inception_v2", "--checkpoint", released, "--output", tmp_path / "model")
    assert (done.returncode, done.stderr) == (0, "")  # not a word from TensorFlow either
    summary = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert summary == {
        "network": "inception_v2",
        "head": "feature_vector, 1024 numbers an image",
        "parameters": "10,173,112",
        "ignored": "variables: classifier 2, global step 1",
        "output": str(tmp_path / "model"),
        "next": f"{sys.executable} -m pipeline --input '*.jpg' --output out --model {tmp_path}/model",
    }
    assert (tmp_path / "model" / "saved_model.pb").exists()


def test_a_wrong_network_is_one_line_and_exit_code_2(released, tmp_path):
    done = command("--network", "inception_resnet_v2", "--checkpoint", released, "--output", tmp_path / "model")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"import-checkpoint: checkpoint='{released}' does not fit network='inception_resnet_v2'")
    assert "the checkpoint has 'InceptionV2', 'global_step': is it another network's?" in line
    assert "896 missing: 'InceptionResnetV2/Conv2d_1a_3x3/weights'" in line and line.endswith("and 876 more")
    assert not (tmp_path / "model").exists()


def test_help_has_examples_and_does_not_wait_for_tensorflow():
    program = "import sys; from pipeline.commands import import_checkpoint\ntry: import_checkpoint.main(['--help'])\n"
    program += "finally: print('tensorflow' in sys.modules, 'apache_beam' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.endswith("False False\n")
    assert "--checkpoint inception_resnet_v2_2016_08_30.ckpt" in done.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "the following arguments are required: --network, --checkpoint, --output"),
        (["--network", "vgg"], "argument --network: invalid choice: 'vgg'"),
    ],
)
def test_wrong_flags_are_one_line_and_exit_code_2(flags, message, capfd):
    assert import_checkpoint.main(flags) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"import-checkpoint: {message}")


def test_head_and_overwrite(tiny, tmp_path, capfd):
    assert run(tiny, tmp_path / "model") == 0
    assert "feature_vector, 6 numbers an image" in capfd.readouterr().out
    assert run(tiny, tmp_path / "model", "--head", "classification") == 2
    assert "exists: give another, or --overwrite to replace it" in capfd.readouterr().err
    assert run(tiny, tmp_path / "model", "--head", "classification", "--overwrite") == 0
    assert "classification, 3 numbers an image" in capfd.readouterr().out


def test_a_missing_checkpoint_is_one_line_and_exit_code_2(tmp_path, capfd):
    assert run(tmp_path / "none.ckpt", tmp_path / "model") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("import-checkpoint: cannot read checkpoint=")


def test_a_place_that_cannot_be_written_is_one_line_and_exit_code_2(tiny, tmp_path, capfd):
    (tmp_path / "file").touch()
    assert run(tiny, tmp_path / "file" / "model") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("import-checkpoint: ") and "file" in line


def test_an_interruption_says_that_nothing_was_written(tiny, tmp_path, capfd, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "read_weights", interrupt)
    assert run(tiny, tmp_path / "model") == 130
    assert capfd.readouterr().err == "import-checkpoint: interrupted: nothing half-done is left\n"
    assert not (tmp_path / "model").exists()
