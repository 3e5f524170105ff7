"""pipeline.directories: complete, or not there at all."""

import pytest

from pipeline import directories

ENTRIES = ("model", "report.json")


def write(path, content, overwrite=False):
    with directories.complete(path, overwrite=overwrite, entries=ENTRIES) as part:
        (part / "model").mkdir()
        (part / "report.json").write_text(content)
        assert part.parent == path.parent and part != path
        yield part


def put(path, content, overwrite=False):
    for _ in write(path, content, overwrite):
        pass


def test_it_appears_at_the_end_and_nothing_else_stays(tmp_path):
    path = tmp_path / "deep" / "out"
    for part in write(path, "1"):
        assert part.exists() and not path.exists()
    assert (path / "report.json").read_text() == "1" and (path / "model").is_dir()
    assert list(path.parent.iterdir()) == [path]


def test_one_that_exists_needs_overwrite(tmp_path):
    path = tmp_path / "out"
    put(path, "1")
    with pytest.raises(ValueError, match=f"--output '{path}' exists: give another, or --overwrite to replace it"):
        put(path, "2")
    assert (path / "report.json").read_text() == "1"
    for _ in write(path, "2", overwrite=True):
        assert (path / "report.json").read_text() == "1"  # until the new one is complete
    assert (path / "report.json").read_text() == "2"
    assert list(tmp_path.iterdir()) == [path]


def test_what_somebody_else_put_there_is_not_replaced(tmp_path):
    path = tmp_path / "out"
    put(path, "1")
    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds more than this command writes: expected a directory with nothing but"):
        put(path, "2", overwrite=True)
    assert (path / "thesis.tex").exists() and (path / "report.json").read_text() == "1"
    file = tmp_path / "file"
    file.write_text("")
    link = tmp_path / "link"
    link.symlink_to(path)
    for other in (file, link):
        with pytest.raises(ValueError, match="is not replaced"):
            put(other, "2", overwrite=True)
        assert other.exists()


def test_what_fails_leaves_nothing_and_replaces_nothing(tmp_path):
    path = tmp_path / "out"
    put(path, "1")
    for error in (RuntimeError, KeyboardInterrupt):
        with (
            pytest.raises(error),
            directories.complete(path, overwrite=True, entries=ENTRIES) as part,
        ):
            (part / "report.json").write_text("2")
            raise error
        assert list(tmp_path.iterdir()) == [path] and (path / "report.json").read_text() == "1"


def test_one_that_appeared_in_the_meantime_stays(tmp_path):
    path = tmp_path / "out"
    with (
        pytest.raises(ValueError, match="exists: give another"),
        directories.complete(path, overwrite=False, entries=ENTRIES),
    ):
        put(path, "other")
    assert (path / "report.json").read_text() == "other" and list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        put(tmp_path / "file" / "out", "1")
