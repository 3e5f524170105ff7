"""transforms.storage.complete: complete, or not there at all."""

import contextlib
from pathlib import Path

import pytest

from transforms.storage import complete

ENTRIES = ("model", "report.json")


def directory(path, overwrite, **options):
    return complete.directory(path, named=f"--output '{path}'", overwrite=overwrite, entries=ENTRIES, **options)


def write(path, content, overwrite=False):
    with directory(path, overwrite) as part:
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
            directory(path, overwrite=True) as part,
        ):
            (part / "report.json").write_text("2")
            raise error
        assert list(tmp_path.iterdir()) == [path] and (path / "report.json").read_text() == "1"


def test_one_that_appeared_in_the_meantime_stays(tmp_path):
    path = tmp_path / "out"
    with (
        pytest.raises(ValueError, match="exists: give another"),
        directory(path, overwrite=False),
    ):
        put(path, "other")
    assert (path / "report.json").read_text() == "other" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_called_like_an_entry_is_not_replaced(tmp_path):
    (tmp_path / "model").write_text("years of work")
    with pytest.raises(complete.Occupied, match="is not replaced"):
        put(tmp_path / "model", "2", overwrite=True)
    assert (tmp_path / "model").read_text() == "years of work"


def test_of_a_link_the_link_is_replaced(tmp_path):
    path, link = tmp_path / "out", tmp_path / "link"
    put(path, "1")
    link.symlink_to(path)
    put(link, "2", overwrite=True)
    assert (path / "report.json").read_text() == "1" and (link / "report.json").read_text() == "2"
    assert not link.is_symlink() and sorted(tmp_path.iterdir()) == [link, path]


def test_one_without_its_marker_is_unfinished(tmp_path):
    path = tmp_path / "out"
    (path / "model").mkdir(parents=True)
    with directory(path, overwrite=False, markers=("report.json",)) as part:
        (part / "report.json").write_text("1")
    assert [entry.name for entry in path.iterdir()] == ["report.json"]
    with pytest.raises(complete.Occupied, match="exists: give another"):
        put_with_marker(path)
    (path / "report.json").rename(path / "thesis.tex")
    with pytest.raises(complete.Occupied, match="holds more than this command writes"):
        put_with_marker(path)
    assert [entry.name for entry in path.iterdir()] == ["thesis.tex"]


def put_with_marker(path):
    with directory(path, overwrite=False, markers=("report.json",)):
        pass


def test_a_cache_is_filled_once(tmp_path):
    def fill(content):
        return lambda directory: (directory / "file").write_text(content)

    path = tmp_path / "deep" / "entry"
    complete.fill_once(path, fill("1"))
    complete.fill_once(path, fill("2"))
    assert (path / "file").read_text() == "1" and list(path.parent.iterdir()) == [path]


def test_of_several_that_fill_a_cache_the_first_wins(tmp_path):
    path = tmp_path / "entry"

    def fill(directory):
        (directory / "file").write_text("2")
        path.mkdir()
        (path / "file").write_text("1")  # another process, meanwhile

    complete.fill_once(path, fill)
    assert (path / "file").read_text() == "1" and list(tmp_path.iterdir()) == [path]


def test_a_cache_that_cannot_be_filled_stays_empty(tmp_path):
    def fail(directory):
        (directory / "file").write_text("half of")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        complete.fill_once(tmp_path / "entry", fail)
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        put(tmp_path / "file" / "out", "1")


def test_one_that_cannot_be_replaced_is_put_back(tmp_path, monkeypatch):
    path = tmp_path / "out"
    put(path, "1")
    rename = Path.rename

    def refuse(self, target):
        if target == path and (self / "report.json").read_text() == "2":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="No space left"):
        put(path, "2", overwrite=True)
    assert (path / "report.json").read_text() == "1" and list(tmp_path.iterdir()) == [path]


def test_what_somebody_puts_there_in_the_meantime_is_not_replaced(tmp_path):
    path = tmp_path / "out"
    put(path, "1")
    with pytest.raises(complete.Occupied, match="holds more than"), directory(path, overwrite=True):
        (path / "thesis.tex").write_text("years of work")
    assert (path / "thesis.tex").exists() and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("present", "overwrite", "markers", "may"),
    [
        ((), False, (), False),
        ((), True, (), True),
        ((), False, ("report.json",), True),
        (("model",), False, ("report.json",), True),
        (("model", "report.json"), False, ("report.json",), False),
        (("model", "report.json"), True, ("report.json",), True),
        (("model",), False, ("report.json", "model"), False),
        (("other",), False, ("report.json",), False),
        (("other",), True, (), False),
    ],
)
def test_what_may_be_replaced(present, overwrite, markers, may):
    with contextlib.nullcontext() if may else pytest.raises(complete.Occupied, match="^--output 'out' "):
        complete.check_entries(present, named="--output 'out'", overwrite=overwrite, entries=ENTRIES, markers=markers)


def test_a_cache_that_is_there_is_not_even_made_ready(tmp_path):
    (tmp_path / "entry").mkdir()
    complete.fill_once(tmp_path / "entry", lambda directory: pytest.fail("it was filled again"))
    with pytest.raises(ValueError, match="no model"):
        complete.fill_once(tmp_path / "another", lambda directory: (_ for _ in ()).throw(ValueError("no model")))
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]
