"""transforms.models.portable: which files make up a model, and which a stranger's model may not name."""

import os

import pytest

from tests.helpers import onnx_models
from transforms.models import onnx_external, portable


def write_ir(directory, name="net"):
    (directory / f"{name}.xml").write_text("<net/>")
    (directory / f"{name}.bin").write_bytes(b"weights")
    return directory / f"{name}.xml"


def test_a_file_and_a_directory_with_it_are_one_model(tmp_path):
    file = onnx_models.write(tmp_path / "resnet.onnx")
    (tmp_path / "README.md").write_text("about it")
    model = portable.find(file)
    assert model == portable.find(tmp_path)
    assert (model.format, model.main, model.files) == ("onnx", file, {"model.onnx": file})


def test_external_data_is_part_of_a_model(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", external="weights/m.data")
    assert portable.find(file).files == {"model.onnx": file, "weights/m.data": tmp_path / "weights" / "m.data"}


def test_a_location_may_have_a_dot(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", external="./w.bin")
    assert portable.find(file).files == {"model.onnx": file, "w.bin": tmp_path / "w.bin"}


def test_tensors_may_spell_the_name_of_their_file_in_two_ways(tmp_path, monkeypatch):
    file = onnx_models.write(tmp_path / "m.onnx", external="w.bin")
    monkeypatch.setattr(onnx_external, "locations", lambda file: ["w.bin", "./w.bin"])
    assert portable.find(file).files == {"model.onnx": file, "w.bin": tmp_path / "w.bin"}


def test_an_ir_has_its_weights_beside_it(tmp_path):
    file = write_ir(tmp_path)
    assert portable.find(file).files == {"model.xml": file, "model.bin": tmp_path / "net.bin"}
    assert portable.find(tmp_path).format == "openvino"
    (tmp_path / "net.bin").unlink()
    with pytest.raises(ValueError, match=r"net\.xml' has data in 'net\.bin': there is no such file in"):
        portable.find(file)


def test_names_of_classes_are_part_of_a_directory(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    assert list(portable.find(tmp_path).files) == ["model.onnx", "labels.txt"]
    assert list(portable.find(file).files) == ["model.onnx"]


def test_the_preprocessing_beside_it_is_part_of_a_model(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx")
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert list(portable.find(tmp_path).files) == ["model.onnx", "preprocessor_config.json"]
    assert portable.find(file) == portable.find(tmp_path)


@pytest.mark.parametrize("other", ["saved_model.pb", None])
def test_another_model_or_none(tmp_path, other):
    (tmp_path / "notes.xml").write_text("<notes/>")  # without a .bin
    if other:
        onnx_models.write(tmp_path / "m.onnx")
        (tmp_path / other).touch()
    assert portable.find(tmp_path) is None
    assert portable.find(tmp_path / "m.keras") is None


def test_several_models_in_a_directory(tmp_path):
    onnx_models.write(tmp_path / "b.onnx")
    write_ir(tmp_path)
    with pytest.raises(ValueError, match=r"holds 2 models, b\.onnx, net\.xml: give the path of one of them"):
        portable.find(tmp_path)


@pytest.mark.parametrize(
    "location",
    ["../secret", "/etc/passwd", "weights/../../secret", "", "a\0b", "*/_ORT_MEM_ADDR_/*"],
    ids=["parent", "absolute", "parent within", "none", "zero", "an address"],
)
def test_a_location_that_leads_out_is_refused(tmp_path, location):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "m").mkdir()
    file = onnx_models.write(tmp_path / "m" / "m.onnx", external="weights.bin")
    graph = onnx_models.onnx.load_model(file, load_external_data=False)
    (entry,) = (entry for entry in graph.graph.initializer[0].external_data if entry.key == "location")
    entry.value = location
    file.write_bytes(graph.SerializeToString())
    with pytest.raises(ValueError, match="has external data in .*: expected a file in the directory of the model"):
        portable.find(file)


@pytest.mark.parametrize("link", ["file", "directory"])
def test_a_link_is_refused(tmp_path, link):
    (tmp_path / "m").mkdir()
    file = onnx_models.write(tmp_path / "m" / "m.onnx", external="weights/w.bin")
    linked = tmp_path / "m" / "weights" / ("w.bin" if link == "file" else "")
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"has data in 'weights/w\.bin', which is a link: expected the file itself"):
        portable.find(file)


def test_what_is_missing_or_no_file(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", external="w.bin")
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ValueError, match=r"has data in 'w\.bin': there is no such file"):
        portable.find(file)
    os.mkfifo(tmp_path / "w.bin")
    with pytest.raises(ValueError, match=r"has data in 'w\.bin': there is no such file"):
        portable.find(file)
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ValueError, match="expected regular files"):
        portable.find(tmp_path / "pipe.onnx")


def test_two_files_of_one_name(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", external="model.onnx")
    with pytest.raises(ValueError, match=r"has external data in 'model\.onnx': expected another name"):
        portable.find(file)


def test_a_main_file_that_is_too_large(tmp_path):
    (tmp_path / "m.onnx").touch()
    os.truncate(tmp_path / "m.onnx", 2**31 + 1)
    with pytest.raises(ValueError, match="has 2147483649 bytes: expected at most 2147483648"):
        portable.find(tmp_path / "m.onnx")


def test_a_changed_file_is_read_again(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx")
    assert portable.companions(file) == []
    onnx_models.write(file, external="w.bin")
    assert portable.companions(file) == ["w.bin"]


def test_a_file_that_was_edited_and_kept_its_size_is_read_again(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", external="a.bin")
    os.utime(file, ns=(0, 10**18))
    assert portable.companions(file) == ["a.bin"]
    size = file.stat().st_size
    onnx_models.write(file, external="b.bin")
    os.utime(file, ns=(0, 10**18 + 1))
    assert file.stat().st_size == size and portable.companions(file) == ["b.bin"]


def test_a_file_of_another_size_is_read_again_whatever_its_time(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", external="a.bin")
    os.utime(file, ns=(0, 10**18))
    assert portable.companions(file) == ["a.bin"]
    onnx_models.write(file, external="longer.bin")
    os.utime(file, ns=(0, 10**18))
    assert portable.companions(file) == ["longer.bin"]


@pytest.mark.parametrize(("suffix", "most"), [(".onnx", 2**31), (".xml", 2**28), (".tflite", 2**31)])
def test_a_main_file_has_a_largest_size(tmp_path, suffix, most):
    file = tmp_path / f"m{suffix}"
    (tmp_path / "m.bin").touch()
    file.touch()
    os.truncate(file, most + 1)
    with pytest.raises(ValueError, match=f"has {most + 1} bytes: expected at most {most}"):
        portable.find(file)
    os.truncate(file, most)
    if suffix != ".onnx":  # which would be read
        assert portable.find(file).main == file


def test_of_many_models_in_a_directory_five_are_named(tmp_path):
    for name in "gfedcba":
        (tmp_path / f"{name}.tflite").touch()
    with pytest.raises(
        ValueError, match=r"holds 7 models, a\.tflite, b\.tflite, c\.tflite, d\.tflite, e\.tflite: give"
    ):
        portable.find(tmp_path)
