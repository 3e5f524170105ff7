"""transforms.models.class_names: which names go with which outputs."""

import pytest

from transforms.models import class_names


def test_1001_outputs_have_the_names_of_imagenet(tmp_path):
    names = class_names.names(tmp_path, True, 1001)
    assert len(names) == 1001
    # TF-Slim's order: background, then ILSVRC 2012.
    assert [names[i] for i in (0, 1, 286, 968)] == ["background", "tench", "Egyptian cat", "espresso"]


def test_a_model_with_labels_has_its_own_names(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    assert class_names.names(tmp_path, False, 2) == ("cat", "dog")
    with pytest.raises(ValueError, match="has 2 names for a model of 3 outputs"):
        class_names.names(tmp_path, True, 3)


def test_names_without_end(tmp_path):
    with (tmp_path / "labels.txt").open("wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(
        ValueError, match="labels.txt' has 1099511627776 bytes: expected at most 67108864, one name per"
    ):
        class_names.names(tmp_path, True, 3)


def test_classes_without_names_are_numbered(tmp_path):
    assert class_names.names(tmp_path, True, 3) == ("0", "1", "2")
    assert class_names.names(tmp_path, False, 1001) == ()


def test_names_of_just_the_largest_size(tmp_path, monkeypatch):
    monkeypatch.setattr(class_names, "_MAX_BYTES", 8)
    monkeypatch.setattr(class_names, "_IMAGENET", tmp_path / "none")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    assert class_names.names(tmp_path, True, 2) == ("cat", "dog")
    monkeypatch.setattr(class_names, "_MAX_BYTES", 7)
    with pytest.raises(ValueError, match="has 8 bytes: expected at most 7"):
        class_names.names(tmp_path, True, 2)


@pytest.mark.parametrize("outputs", [1, 3])
def test_as_many_names_as_outputs(tmp_path, outputs):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match=f"has 2 names for a model of {outputs} outputs"):
        class_names.names(tmp_path, True, outputs)
