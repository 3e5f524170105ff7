"""Models that raise over some images, or over all, through the whole command."""

import re

import pytest
import tensorflow as tf
from PIL import Image

from tests.helpers.running import run_pipeline, run_refused

pytestmark = pytest.mark.slow


class Assertive(tf.Module):
    """The mean of each colour, of images that are darker than a limit. Over others it raises."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])
    def __call__(self, images):
        means = tf.reduce_mean(images, axis=[1, 2])
        with tf.control_dependencies([tf.debugging.assert_less(means, self.limit, message="too bright")]):
            return tf.identity(means)


@pytest.fixture
def flags(tmp_path):
    """Returns the flags for a model with a limit, and for images of one colour each in the unit range."""

    def make(limit, *colours):
        tf.saved_model.save(Assertive(limit), str(tmp_path / "model"))
        (tmp_path / "photos").mkdir()
        for number, colour in enumerate(colours):
            pixels = (int(255 * colour), number, 0)
            Image.new("RGB", (16, 16), pixels).save(tmp_path / "photos" / f"{number:03}.png")
        return ["--input", tmp_path / "photos", "--model", tmp_path / "model", "--image_size", "16x16"]

    return make


def check_plain(line):
    """Asserts that a line for people has the reason, and neither nodes of the graph nor places in the code."""
    assert "assertion failed: [too bright]" in line
    assert not re.search(r"{{|}}|Graph execution|Detected at node|File \"|Traceback|most recent call", line)


def test_one_image_on_which_the_model_raises_costs_one_failure(flags, tmp_path):
    run = run_pipeline(tmp_path / "out", *flags(0.9, *[0.1] * 50, 1.0, *[0.1] * 50))
    assert run.code == 0, run.stderr
    assert run.counts == {"listed": 101, "embedded": 100, "failed": 1}
    culprit = str(tmp_path / "photos" / "050.png")
    assert len(run.vectors()) == 100 and culprit.encode() not in run.vectors()
    assert run.report["failures"] == {"embed": {"InferenceError": 1}}
    (failure,) = run.failures
    assert (failure["key"], failure["stage"], failure["error"]) == (culprit, "embed", "InferenceError")
    assert failure["message"].startswith("InvalidArgumentError: assertion failed: ") and not failure["retryable"]
    check_plain(failure["message"])


def test_the_only_image_of_a_run_may_be_the_culprit(flags, tmp_path):
    run = run_pipeline(tmp_path / "out", *flags(0.9, 1.0))
    assert (run.code, run.counts) == (1, {"listed": 1, "failed": 1}), run.stderr
    assert len(run.failures) == 1


def test_all_images_of_a_run_may_be_culprits(flags, tmp_path):
    run = run_pipeline(tmp_path / "out", *flags(0.9, *[1.0] * 70))
    assert (run.code, run.counts) == (1, {"listed": 70, "failed": 70}), run.stderr


def test_a_model_that_fails_on_every_image_fails_the_job_in_one_line(flags, tmp_path):
    run = run_pipeline(tmp_path / "out", *flags(0.001, *[0.5] * 150))
    assert run.code == 1 and run.stdout == ""
    lines = [line for line in run.stderr.splitlines() if line.startswith("run_pipeline.py: ")]
    assert len(lines) == 1 and lines[0].startswith("run_pipeline.py: the job failed: the model fails on every image, ")
    check_plain(lines[0])
    assert run.failures == [] and not list((tmp_path / "out").glob("runs/*.json"))


def test_a_model_that_fails_on_a_black_image_is_refused(flags, tmp_path):
    run = run_refused(tmp_path / "out", *flags(-1.0, 0.5))
    assert run.code == 2
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("run_pipeline.py: ")]
    assert line.startswith(f"run_pipeline.py: model='{tmp_path / 'model'}' fails on images of 16x16 pixels: ")
    check_plain(line)
