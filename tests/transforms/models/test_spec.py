"""transforms.models.spec: a digest that tells which vectors are comparable."""

import dataclasses

import pytest

from transforms.models.preprocessing import Preprocessing
from transforms.models.spec import ModelSpec, digest, in_precision
from transforms.storage.context import Storage

SPEC = ModelSpec("m", "tf2", "/models/m", "", (), 7, (8, 8), "d" * 64)


def test_the_digest_covers_the_weights_and_what_is_called():
    use = {"files": "f", "signature": "", "tags": (), "image_size": (8, 8), "preprocessing": Preprocessing()}
    changes = [
        {},
        {"files": "g"},
        {"signature": "s"},
        {"tags": ("train",)},
        {"image_size": (8, 9)},
        {"preprocessing": Preprocessing(resize_mode="pad")},
        {"output": "pooled"},
        {"normalize": True},
    ]
    assert len({digest(**(use | change)) for change in changes}) == len(changes)


def test_a_digest_of_a_model_with_one_output_is_that_of_earlier_versions():
    use = {"files": "f", "signature": "", "tags": (), "image_size": (8, 8), "preprocessing": Preprocessing()}
    assert digest(**use) == "f92e27aadab575379b7dd53925ae9fc6fe75d4ab0eaf3b9a363e52bc03ccb83e"


def test_the_order_of_tags_changes_no_digest():
    use = {"files": "f", "signature": "", "image_size": (8, 8)}
    assert digest(**use, tags=("a", "b")) == digest(**use, tags=("b", "a"))


@pytest.mark.parametrize(
    ("changes", "is_shared"),
    [
        ({"dimension": 9, "digest": "e" * 64, "spread": 0.5}, True),
        ({"precision": "bfloat16", "precision_cosine": 0.99}, True),
        ({"classes": ("a", "b"), "gives_probabilities": True}, True),
        *(({name: "x"}, False) for name in ("format", "location", "signature", "tags", "output", "files")),
        ({"image_size": (8, 9)}, False),
        ({"preprocessing": Preprocessing(channels="bgr")}, False),
        ({"normalize": True}, False),
    ],
    ids=str,
)
def test_models_that_are_opened_alike_are_opened_once(changes, is_shared):
    assert (dataclasses.replace(SPEC, **changes).for_opening() == SPEC.for_opening()) is is_shared


def test_vectors_of_another_precision_have_a_digest_of_their_own():
    assert in_precision(SPEC, "float32", 1.0) is SPEC
    other = in_precision(SPEC, "bfloat16", 0.99)
    assert (other.precision, other.precision_cosine) == ("bfloat16", 0.99)
    assert other.digest not in (SPEC.digest, in_precision(SPEC, "float16", 0.99).digest)


def test_a_report_does_not_say_who_pays():
    spec = dataclasses.replace(SPEC, storage=Storage("ours"))
    assert "ours" not in str(spec.facts()) and "ours" not in spec.fields().facts


@pytest.mark.parametrize(("top_classes", "labels"), [(0, 0), (1, 1), (5, 2)])
def test_a_record_has_no_more_classes_than_the_model(top_classes, labels):
    assert dataclasses.replace(SPEC, classes=("a", "b")).fields(top_classes).labels == labels
