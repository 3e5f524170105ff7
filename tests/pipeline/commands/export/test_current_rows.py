"""pipeline.commands.export.current_rows: vectors of one model, without those of images that are gone."""

import os

from tests.helpers import outputs
from tests.helpers.exports import MODEL, OTHER, export, write_run


def test_vectors_of_several_models_need_a_choice(tmp_path, capfd):
    write_run(tmp_path, "a", range(20))
    write_run(tmp_path, "b", range(20, 25), OTHER)
    destination = tmp_path / "search"
    assert export(tmp_path, "vertex", "--destination", destination) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{MODEL.digest} and {OTHER.digest}: choose one by --model_digest" in line
    assert export(tmp_path, "vertex", "--destination", destination, "--model_digest", OTHER.digest) == 0
    assert "5 vectors in the runs" in capfd.readouterr().out


def test_a_model_without_vectors_is_refused(tmp_path, capfd):
    write_run(tmp_path, "a", range(20))
    assert export(tmp_path, "vertex", "--destination", tmp_path / "search", "--model_digest", "f" * 64) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"no vectors of --model_digest {'f' * 64}, only of {MODEL.digest}" in line


def test_images_that_no_longer_exist_are_deleted(tmp_path, capfd):
    photos = tmp_path / "photos"
    photos.mkdir()
    names = ("a.jpg", "gone.jpg", "moved/a.jpg", "moved/deep/b.jpg", "linked.jpg")
    keys = [f"{photos}/{name}" for name in names] + [f"{tmp_path}/elsewhere/gone.jpg"]
    (photos / "a.jpg").write_bytes(b"a")
    for name in ("moved", "linked.jpg"):
        (photos / name).symlink_to(tmp_path / "unmounted" / name)
    images = [outputs.embedding(key.encode(), i) for i, key in enumerate(keys)]
    images.append(outputs.embedding(bytes(photos / "own.jpg"), 9, in_shard=b"/s.tfrecord"))
    outputs.write_run(tmp_path / "out", images)
    flags = ["--destination", tmp_path / "search"]
    export(tmp_path / "out", "vertex", *flags)
    assert export(tmp_path / "out", "vertex", *flags, "--prune", photos) == 0
    out, err = capfd.readouterr()
    assert "0 new, 0 replaced, 1 deleted" in out
    assert f"3 rows are not pruned: their images may be where nothing could be listed: {photos}/linked.jpg, " in err
    assert "1 rows are not pruned: their records do not say that the image was a file" in err
    assert (tmp_path / "search" / "batches" / "00002" / "delete" / "part-00000.txt").read_text() == f"{keys[1]}\n"


def test_names_that_need_escapes_are_pruned_by_the_pattern(tmp_path, capfd):
    photos = tmp_path / "caf\udce9\n"
    photos.mkdir()
    (photos / "a\nb.jpg").write_bytes(b"a")
    names = [os.fsencode(photos) + b"/" + name for name in (b"a\nb.jpg", rb"a\x0ab.jpg")]
    outputs.write_run(tmp_path / "out", [outputs.embedding(key, i) for i, key in enumerate(names)])
    flags = ["--destination", tmp_path / "search"]
    assert export(tmp_path / "out", "vertex", *flags) == 0
    assert "2 new" in capfd.readouterr().out
    assert export(tmp_path / "out", "vertex", *flags, "--prune", photos) == 0
    assert "0 new, 0 replaced, 1 deleted" in capfd.readouterr().out


def test_a_pattern_without_images_deletes_nothing(tmp_path, capfd):
    write_run(tmp_path, "a", range(20))
    flags = ["--destination", tmp_path / "search"]
    for pattern, problem in ((tmp_path / "missing" / "*.jpg", "matches nothing"), ("file:///x", "cannot be listed")):
        assert export(tmp_path, "vertex", *flags, "--prune", pattern) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"export: --prune '{pattern}' {problem}")
