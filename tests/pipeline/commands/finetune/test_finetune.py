"""The command `python -m pipeline finetune`, on a small real task: three photographs, told apart by crops of them.

Crops of one photograph are on both sides of the split, so that these accuracies say that training, validation and
export do what they should, and nothing of how well strangers' photographs are recognized.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_hub as hub

from pipeline.commands.finetune.run import main
from tests.helpers import data_generation as data
from tests.helpers import onnx_models, small_task, tiny_module
from tests.helpers.emulators import environment, storage_emulator
from tests.helpers.running import ROOT, read_rows, run_pipeline
from transforms.images import decoding
from transforms.models import resolve
from transforms.models.engines import loading
from transforms.models.training import training_set

pytestmark = pytest.mark.slow

SIZE = (32, 32)
TF1_MODULE = ROOT / "tests" / "golden" / "tf1_hub" / "feature_vector_3"
CROPS = 45  # of each photograph; about 54 in all are for validation
BROKEN = {"empty.jpg": "EmptyImage", "text.jpg": "UnknownFormat", "truncated.jpg": "CorruptImage"}
SMALL = ("--image_size", "32x32", "--batch_size", "16", "--validation_fraction", "0.4", "--epochs", "12")
# Steps are few here, and the module's vectors are short: a softmax needs larger steps, and averages have to hurry.
FROZEN = (*SMALL, "--learning_rate", "0.05")
FULL = (*SMALL, "--learning_rate", "0.02", "--trainable", "--batch_norm_momentum", "0.7")


class Outcome:
    """The exit code, the output and the printed text of a run."""

    def __init__(self, code: int, output: Path, stdout: str, stderr: str):
        self.code, self.output, self.stdout, self.stderr = code, output, stdout, stderr

    @property
    def report(self) -> dict:
        return json.loads((self.output / "report.json").read_text())

    def load(self, name: str):
        return hub.load(str(self.output / name))

    def assert_beats_chance(self):
        """Asserts an accuracy that the best constant answer reaches by luck once in a million validation sets."""
        report = self.report
        threshold = small_task.beyond_luck(report["split"]["validation"], report["chance_accuracy"])
        assert report["split"]["validation"] >= 30 and report["chance_accuracy"] < threshold <= 0.9
        assert report["validation_accuracy"] >= threshold


def command(*flags, output: Path, env: dict[str, str] | None = None) -> Outcome:
    """Runs the command as a user does, in a process of its own."""
    argv = [sys.executable, "-m", "pipeline", "finetune", *map(str, flags), "--output", str(output)]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    return Outcome(done.returncode, output, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def module(tmp_path_factory) -> Path:
    return tiny_module.write(tmp_path_factory.mktemp("tiny") / "module")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """The crops, and three files that are no images in the folder of the first class."""
    directory = small_task.write_crops(tmp_path_factory.mktemp("task") / "photos", CROPS)
    for name in BROKEN:
        (directory / "cat" / name).write_bytes(data.broken_images()[name][0])
    return directory


@pytest.fixture
def run(tmp_path, capfd):
    """Runs the command in this process, where TensorFlow is imported already."""

    def run(*flags, output=None) -> Outcome:
        output = output or tmp_path / "out"
        capfd.readouterr()
        code = main([*map(str, flags), "--output", str(output)])
        captured = capfd.readouterr()
        return Outcome(code, output, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def frozen(photos, module, tmp_path_factory) -> Outcome:
    output = tmp_path_factory.mktemp("frozen") / "out"
    return command("--train", f"{photos}/*/*.jpg", "--model", module, *FROZEN, output=output)


def test_frozen_beats_chance_and_leaves_the_module_as_it_is(frozen, module):
    assert frozen.code == 0, frozen.stderr
    frozen.assert_beats_chance()
    assert frozen.report["kind"] == "frozen" and frozen.report["classes"] == list(small_task.CLASSES)
    for old, new in zip(hub.load(str(module)).variables, frozen.load("feature_vector").variables, strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_preprocessing_beside_a_module_is_that_of_the_training_and_of_its_results(run, photos, module, tmp_path):
    shutil.copytree(module, tmp_path / "module")
    half = [0.5, 0.5, 0.5]
    config = {"size": 32, "resize_mode": "shortest", "interpolation": "bilinear", "mean": half, "std": half}
    (tmp_path / "module" / "preprocess_cfg.json").write_text(json.dumps(config))
    done = run("--train", photos, "--model", tmp_path / "module", "--epochs", "1")
    assert done.code == 0, done.stderr
    assert done.report["source"]["image_size"] == [32, 32]
    original = resolve.resolve(str(tmp_path / "module"))
    assert original.preprocessing.pixel_range == "-1..1" and original.preprocessing.resize_mode == "crop"
    for name in ("feature_vector", "classifier"):
        assert resolve.resolve(str(done.output / name)).preprocessing == original.preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    trained = resolve.resolve(str(done.output / "feature_vector"))
    np.testing.assert_allclose(loading.load(trained)(pixels), loading.load(original)(pixels), atol=1e-5)


def test_full_beats_chance_and_trains_the_module(run, photos, module):
    full = run("--train", photos, "--model", module, "--augment", *FULL)
    assert full.code == 0, full.stderr
    full.assert_beats_chance()
    assert full.report["kind"] == "full"
    assert full.report["settings"]["batch_norm_momentum"] == 0.7 and full.report["settings"]["augment"] is True
    for old, new in zip(hub.load(str(module)).variables, full.load("feature_vector").variables, strict=True):
        assert (old.numpy() != new.numpy()).all()
    # The module gives the vectors that it gives within the classifier.
    pixels = np.random.default_rng(0).random((4, *SIZE, 3), np.float32)
    classifier = full.load("classifier")
    logits = full.load("feature_vector")(pixels).numpy() @ classifier.kernel.numpy() + classifier.bias.numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier(pixels), expected, atol=1e-6)  # float32


def test_the_pipeline_takes_what_was_written(frozen, photos, tmp_path):
    embedded = run_pipeline(
        tmp_path / "vectors", "--model", frozen.output / "feature_vector", "--input", f"{photos}/*/000.jpg"
    )
    assert embedded.code == 0, embedded.stderr
    assert embedded.report["model"]["image_size"] == list(SIZE)
    module, classifier = frozen.load("feature_vector"), frozen.load("classifier")
    spec = resolve.resolve(str(frozen.output / "classifier"))
    assert spec.classes == small_task.CLASSES and spec.image_size == SIZE
    for key, vector in embedded.vectors().items():
        pixels = decoding.decode(Path(os.fsdecode(key)).read_bytes(), SIZE).pixels[None]
        in_unit_range = pixels.astype(np.float32) / 255
        np.testing.assert_allclose(vector, module(in_unit_range)[0], atol=1e-5)  # float32
        np.testing.assert_allclose(loading.load(spec)(pixels), classifier(in_unit_range), atol=1e-5)


def test_the_files_of_the_output_and_the_printed_lines(frozen):
    files = {str(path.relative_to(frozen.output)) for path in frozen.output.rglob("*") if path.is_file()}
    variables = {f"variables/variables.{suffix}" for suffix in ("index", "data-00000-of-00001")}
    saved = {"saved_model.pb", "fingerprint.pb", "assets.extra/image_model.json", *variables}
    assert files == {
        "report.json",
        "classifier/labels.txt",
        *(f"{model}/{name}" for model in ("classifier", "feature_vector") for name in saved),
    }
    assert (frozen.output / "classifier" / "labels.txt").read_text().splitlines() == list(small_task.CLASSES)
    epochs = len(frozen.report["history"]["loss"])
    lines = frozen.stderr.splitlines()
    assert len(lines) == 1 + epochs, "expected no library's noise"
    assert lines[0].endswith(" to validate with")
    assert all(line.startswith(f"epoch {i} of 12: loss ") for i, line in enumerate(lines[1:], 1))
    report = frozen.report
    assert f"accuracy    {report['validation_accuracy']:.3f} on the images for validation" in frozen.stdout
    assert list(frozen.output.parent.iterdir()) == [frozen.output]


def test_every_image_is_accounted_for(frozen, photos):
    report = frozen.report
    assert sum(sum(counts.values()) for counts in report["images"].values()) == 3 * CROPS + len(BROKEN)
    assert report["images"]["cat"]["bad"] == len(BROKEN)
    assert report["bad_images"] == dict.fromkeys(BROKEN.values(), 1)
    assert report["bad_image_keys"] == sorted(str(photos / "cat" / name) for name in BROKEN)
    assert f"{3 * CROPS + 3} images = {report['split']['training']} for training" in frozen.stdout
    for side in ("training", "validation"):
        assert report["split"][side] == sum(counts[side] for counts in report["images"].values())


def test_the_reported_accuracy_is_that_of_the_classifier_written(frozen, photos):
    """Done again with nothing but what was written: the images for validation, their labels, the SavedModel."""
    classifier, labels = frozen.load("classifier"), (frozen.output / "classifier" / "labels.txt").read_text().split()
    hits = []
    for path in sorted(photos.glob("*/*.jpg")):
        if path.name not in BROKEN and training_set.is_validation(os.fsencode(path), 0.4):
            pixels = decoding.decode(path.read_bytes(), SIZE).pixels[None].astype(np.float32) / 255
            hits.append(labels[int(np.argmax(classifier(pixels)))] == path.parent.name)
    assert len(hits) == frozen.report["split"]["validation"]
    assert np.mean(hits) == pytest.approx(frozen.report["validation_accuracy"], abs=1e-6)


def test_a_csv_of_labels_makes_the_same_split(run, frozen, photos, module, tmp_path):
    rows = [f"{path},{path.parent.name}" for path in sorted(photos.glob("*/*.jpg"))]
    missing = (tmp_path / f"missing_{i}.jpg" for i in range(100))
    lost = next(path for path in missing if training_set.is_validation(os.fsencode(path), 0.4))
    (tmp_path / "labels.csv").write_text("\n".join(["uri,label", *rows, f"{lost.name},cat"]))
    by_csv = run("--train", tmp_path / "labels.csv", "--model", module, *FROZEN)
    assert by_csv.code == 0, by_csv.stderr
    mine, other = by_csv.report, frozen.report
    assert mine["split"] == other["split"]
    assert str(lost) in mine["bad_image_keys"] and sum(mine["bad_images"].values()) == len(BROKEN) + 1
    # The same seed and images: the same history, up to the order of float32 sums in threads.
    np.testing.assert_allclose(mine["history"]["val_loss"], other["history"]["val_loss"], rtol=1e-3)


def test_an_output_that_exists_needs_overwrite(run, frozen, photos, module, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(frozen.output, output)
    before = (output / "report.json").read_bytes()
    flags = ("--train", photos, "--model", module, *FROZEN, "--epochs", 1)
    refused = run(*flags)
    assert refused.code == 2
    assert refused.stderr == f"finetune: --output '{output}' exists: give another, or --overwrite to replace it\n"
    assert (output / "report.json").read_bytes() == before
    assert run(*flags, "--overwrite").code == 0
    assert len(json.loads((output / "report.json").read_text())["history"]["loss"]) == 1


@pytest.fixture(scope="module")
def embedded(tmp_path_factory) -> tuple[Path, Path]:
    """Crops, one of them broken, and the pipeline's output for them."""
    root = tmp_path_factory.mktemp("embedded")
    crops = small_task.write_crops(root / "photos", CROPS)
    (crops / "cat" / "text.jpg").write_bytes(b"this is no image\n")
    done = run_pipeline(root / "vectors", "--input", f"{crops}/*/*.jpg")
    assert done.code == 0 and done.counts["failed"] == 1, done.stderr
    return crops, root / "vectors"


PROBE = ("--validation_fraction", "0.4", "--batch_size", "16", "--epochs", "12")


def test_a_linear_probe_beats_chance(run, embedded):
    _, vectors = embedded
    probe = run("--embeddings", vectors, *PROBE)
    assert probe.code == 0, probe.stderr
    probe.assert_beats_chance()
    report = probe.report
    assert report["kind"] == "linear_probe" and report["source"]["model"]["name"] == "efficientnet_lite0"
    assert report["split"]["training"] + report["split"]["validation"] == 3 * CROPS and report["bad_images"] == {}
    assert sorted(path.name for path in probe.output.iterdir()) == ["classifier", "report.json"]
    # What was written says of the pipeline's own vectors what was reported.
    classifier, labels = probe.load("classifier"), (probe.output / "classifier" / "labels.txt").read_text().split()
    hits = [
        labels[int(np.argmax(classifier(row["embedding"][None])))] == Path(row["image/key"].decode()).parent.name
        for row in read_rows(vectors)
        if training_set.is_validation(row["image/key"], 0.4)
    ]
    assert len(hits) == report["split"]["validation"]
    assert np.mean(hits) == pytest.approx(report["validation_accuracy"], abs=1e-6)


def test_a_linear_probe_on_labels_without_meaning_does_not(run, embedded, tmp_path):
    """The control: what beats chance above is in the vectors, and does not leak from one side of the split."""
    crops, vectors = embedded
    rng = np.random.default_rng(0)
    rows = [f"{path},{small_task.CLASSES[rng.integers(3)]}" for path in sorted(crops.glob("*/*.jpg"))]
    (tmp_path / "labels.csv").write_text("\n".join(["uri,label", *rows, "/elsewhere/1.jpg,cat"]))
    probe = run("--embeddings", vectors, "--labels", tmp_path / "labels.csv", *PROBE)
    assert probe.code == 0, probe.stderr
    report = probe.report
    assert report["source"]["without_vector"] == 2 and report["source"]["unlabelled"] == 0
    count, chance = report["split"]["validation"], report["chance_accuracy"]
    assert report["validation_accuracy"] < small_task.beyond_luck(count, chance)


def test_images_in_a_bucket(photos, module, tmp_path):
    (tmp_path / "server").mkdir()
    with storage_emulator(tmp_path / "server") as address:
        code = (
            "import sys; from pathlib import Path; from google.cloud import storage\n"
            "bucket = storage.Client().create_bucket('photos')\n"
            "for path in map(Path, sys.argv[1:]): "
            "bucket.blob(f'in/{path.parent.name}/{path.name}').upload_from_filename(path)\n"
        )
        chosen = sorted(photos.glob("*/00[0-5].jpg"))
        subprocess.run([sys.executable, "-c", code, *chosen], env=environment(address), check=True)
        flags = ("--train", "gs://photos/in/", "--model", module, *FROZEN, "--epochs", 2)
        done = command(*flags, output=tmp_path / "out", env=environment(address))
    assert done.code == 0, done.stderr
    report = done.report
    assert report["split"]["training"] + report["split"]["validation"] == len(chosen) == 18
    assert report["classes"] == list(small_task.CLASSES) and report["bad_images"] == {}


@pytest.fixture
def wrong(photos, module, embedded, tmp_path):
    """Name → flags with one fault, and the message about it."""
    one_class, all_bad = tmp_path / "one", tmp_path / "bad"
    for directory, name in ((one_class / "cat", "000.jpg"), (all_bad / "a", "000.jpg")):
        directory.mkdir(parents=True)
        shutil.copy(photos / "cat" / name, directory)
    (all_bad / "b").mkdir()
    (all_bad / "b" / "1.jpg").write_bytes(b"no image")
    plain = tiny_module.write_plain(tmp_path / "plain")
    for name in ("empty", "onnx"):
        (tmp_path / name).mkdir()
    ours = ("--train", photos, "--model", module)
    return {
        "flag": ((*ours, "--epochs", "none"), "argument --epochs: 'none': expected a whole number from 1"),
        "no model": (("--train", photos, "--model", "resnet"), "model='resnet': no such directory, archive"),
        "no saved model": (
            ("--train", photos, "--model", tmp_path / "empty"),
            "expected saved_model.pb there, found []",
        ),
        "onnx": (
            ("--train", photos, "--model", onnx_models.write(tmp_path / "onnx" / "m.onnx").parent),
            "cannot be trained: expected a SavedModel in",
        ),
        "bundled": (
            ("--train", photos, "--model", "efficientnet_lite0"),
            "cannot be trained: expected a SavedModel in",
        ),
        "tf1": (("--train", photos, "--model", TF1_MODULE), "train on its vectors by --embeddings"),
        "no size": (ours, "does not tell which size its images have: give --image_size HxW"),
        "no images": (("--train", f"{tmp_path}/none/*", "--model", module), "matches nothing: expected at least one"),
        "one class": (("--train", one_class, "--model", module), "expected images of at least two classes, found only"),
        "bad class": (
            ("--train", all_bad, "--model", module, "--validation_fraction", "0", "--image_size", "32x32"),
            "class 'b': none of its 1 training images can be read and decoded; the first,",
        ),
        "nothing trained": (
            ("--train", photos, "--model", module, "--validation_fraction", "0.999999"),
            "nothing to train on, the split puts its",
        ),
        "momentum": (
            ("--train", photos, "--model", plain, "--trainable", "--batch_norm_momentum", "0.9"),
            "the model's __call__ takes no batch_norm_momentum",
        ),
        "size": (
            ("--train", photos, "--model", plain, "--image_size", "32x32"),
            "the model takes images of 24x40 pixels only, not image_size=32x32",
        ),
        "trainable": (("--train", photos, "--model", plain, "--trainable"), "the model has no trainable variables"),
        "no embeddings": (("--embeddings", photos), "no part-SSSSS-of-NNNNN.tfrecord or .parquet below it"),
        "no labels": (("--embeddings", embedded[1], "--labels", tmp_path / "none.csv"), "none.csv' cannot be read: "),
    }


NAMES = [
    *(
        "flag",
        "no model",
        "no saved model",
        "onnx",
        "bundled",
        "tf1",
        "no size",
        "no images",
        "one class",
        "bad class",
        "nothing trained",
        "momentum",
    ),
    *("size", "trainable", "no embeddings", "no labels"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_is_reported_in_one_line_before_any_training(name, wrong, run, monkeypatch):
    assert set(wrong) == set(NAMES)
    monkeypatch.setattr("transforms.models.training.classifier.fit", lambda *_, **__: pytest.fail("trained"))
    flags, message = wrong[name]
    outcome = run(*flags)
    assert outcome.code == 2
    assert outcome.stderr.startswith("finetune: ") and message in outcome.stderr
    assert outcome.stderr.count("\n") == 1 and outcome.stdout == ""
    assert not outcome.output.exists() and not list(outcome.output.parent.glob(".*"))


def test_a_training_that_fails_leaves_nothing_but_its_log(embedded, tmp_path):
    failed = command("--embeddings", embedded[1], "--learning_rate", "1e38", output=tmp_path / "out")
    assert failed.code == 1
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("finetune: the training failed: the loss is not finite after epoch ")
    assert list(tmp_path.iterdir()) == []
    log = Path(last.rsplit(": ", 1)[1])
    assert "TrainingError" in log.read_text() and "Traceback" not in failed.stderr
    log.unlink()


def test_interrupted_nothing_is_written(photos, module, tmp_path):
    (tmp_path / "tmp").mkdir()  # where the log is while it runs
    flags = ["--train", photos, "--model", module, "--output", tmp_path / "out", "--image_size", "32x32"]
    argv = [sys.executable, "-m", "pipeline", "finetune", *flags, "--epochs", 100_000, "--patience", 99_999]
    env = environment({"TMPDIR": str(tmp_path / "tmp")})
    with subprocess.Popen([*map(str, argv)], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            while not (line := process.stderr.readline()).startswith("epoch 2 "):
                assert line, "ended before the second epoch"
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
            assert process.wait(30) == 130
        finally:
            process.kill()
    assert rest.splitlines()[-1] == "finetune: interrupted: nothing was written"
    # TensorFlow removes what it generates only at the end of a process that ends by itself.
    left = [path for path in tmp_path.rglob("*") if not path.name.startswith("__autograph_generated_file")]
    assert [path for path in left if path.name != "__pycache__" and path.suffix != ".pyc"] == [tmp_path / "tmp"]
