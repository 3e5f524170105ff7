"""pipeline.commands.finetune.report: counts that add up, and the accuracy of chance."""

import json

from pipeline.commands.finetune import options
from pipeline.commands.finetune import report as reports
from transforms.models.training.training_set import Labelled, Split

HISTORY = {
    "loss": (2.0, 1.0, 0.5),
    "accuracy": (0.1, 0.2, 0.3),
    "val_loss": (3, 1, 2),
    "val_accuracy": (0.5, 0.75, 0.6),
}


def side(prefix, *labels):
    return tuple(Labelled(b"%s%d" % (prefix, i), label) for i, label in enumerate(labels))


def compose(validation, kind="full", history=HISTORY, *flags):
    config = options.parse(["--train", "x", "--model", "m", "--output", "/o", *flags])
    split = Split(("a", "b"), side(b"t", "a", "a", "b", "b"), validation)
    bad = {b"t1": "CorruptImage", b"t3": "EmptyImage", b"v0": "CorruptImage"}
    return reports.compose(config, kind, {"model": "m"}, split, bad, history, 2, {"training": 1.23456, "all": 5.0})


def test_counts_accuracy_and_chance():
    report = compose(side(b"v", "a", "a", "b", "b", "b"))
    assert report.images == {
        "a": {"training": 1, "validation": 1, "bad": 2},
        "b": {"training": 1, "validation": 3, "bad": 1},
    }
    assert report.split == {"validation_fraction": 0.2, "training": 2, "validation": 4}
    assert report.bad_images == {"CorruptImage": 2, "EmptyImage": 1} and report.bad_image_keys == ["t1", "t3", "v0"]
    # The second epoch is the best; of the 4 good validation images 3 are of one class.
    assert (report.validation_accuracy, report.chance_accuracy) == (0.75, 0.75)
    read = json.loads(report.to_json())
    assert read["history"]["loss"] == [2.0, 1.0, 0.5] and read["best_epoch"] == 2
    assert read["settings"] == {
        "epochs": 20,
        "batch_size": 32,
        "learning_rate": 0.001,
        "patience": 3,
        "seed": 0,
        "augment": False,
        "batch_norm_momentum": None,
    }
    assert read["seconds"] == {"training": 1.235, "all": 5.0}
    summary = reports.summary(report, "/o")
    assert summary.splitlines() == [
        "9 images = 2 for training + 4 for validation + 3 bad (CorruptImage 2, EmptyImage 1)",
        "",
        "  accuracy    0.750 on the images for validation; chance is 0.750",
        "  training    full, 3 epochs, the best is number 2; 1.2 s",
        "  classifier  /o/classifier: 2 classes, listed in its labels.txt",
        "  module      /o/feature_vector: for --model of a run",
        "  report      /o/report.json",
    ]


def test_without_validation_nothing_is_claimed():
    history = {name: HISTORY[name] for name in ("loss", "accuracy")}
    report = compose((), "linear_probe", history)
    assert report.validation_accuracy is None and report.chance_accuracy is None
    assert "augment" not in report.settings
    summary = reports.summary(report, "/o")
    assert "accuracy    unknown: no images for validation" in summary and "feature_vector" not in summary
    assert json.loads(report.to_json())["validation_accuracy"] is None


def test_few_bad_images_are_named_and_all_are_counted():
    config = options.parse(["--train", "x", "--model", "m", "--output", "/o"])
    bad = {b"%05d" % number: "CorruptImage" for number in range(reports._MAX_BAD_KEYS + 5)}
    split = Split(("a", "b"), side(b"t", "a", "b"), side(b"v", "a", "b"))
    report = reports.compose(config, "full", {}, split, bad, HISTORY, 2, {})
    assert report.bad_images == {"CorruptImage": len(bad)}
    assert report.bad_image_keys == [key.decode() for key in sorted(bad)[: reports._MAX_BAD_KEYS]]
