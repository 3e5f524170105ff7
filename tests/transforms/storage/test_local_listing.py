"""transforms.storage.local_listing: what a glob matches, whatever it is."""

import errno
import os
import socket

import pytest

from tests.helpers.unprivileged import open_directory, unprivileged
from transforms.elements import keys
from transforms.storage import files, local, local_listing
from transforms.storage.choice import Choice


def choice(pattern, **flags):
    return Choice([str(pattern)], **flags)


def listed(pattern, **flags):
    """Returns what a pattern matches: size by path, None for what is no file. Each path comes once."""
    found = list(local_listing.match(choice(pattern, **flags)))
    assert len({ref.key for ref in found}) == len(found)
    return {keys.uri(ref.key): ref.size if ref.version else None for ref in found}


def names(directory, pattern, **flags):
    """Returns the names below a directory that a pattern matches there."""
    return sorted(os.path.relpath(path, directory) for path in listed(directory / pattern, **flags))


def fill(directory, *names):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))


def test_files_as_beam_lists_them(tmp_path):
    fill(tmp_path, "a.jpg", "b.png", "sub/c.jpg", "sub/deep/d.jpg", "name [1].jpg", "new\nline.jpg", "q")
    for pattern in (
        "*.jpg",
        "**",
        "**.jpg",
        "*/*.jpg",
        "sub/**",
        "?.jpg",
        "a.jpg",
        "[ab].*",
        "no*",
        "gone.jpg",
    ):
        by_beam = {file.path: file.size for file in files.match(f"{tmp_path}/{pattern}")}
        assert listed(f"{tmp_path}/{pattern}") == by_beam, pattern
        matches = local_listing.match(choice(f"{tmp_path}/{pattern}"))
        versions = {ref.version for ref in matches if ref.version}
        assert versions == {file.version for file in files.match(f"{tmp_path}/{pattern}")}


def test_more_than_beam_lists(tmp_path):
    fill(tmp_path, "a.jpg", "sub/c.jpg", "sub/deep/d.jpg", "back\\slash.jpg")
    assert names(tmp_path, "**/*.jpg") == ["a.jpg", "back\\slash.jpg", "sub/c.jpg", "sub/deep/d.jpg"]
    assert names(tmp_path, "sub/**/d*") == ["sub/deep/d.jpg"]
    assert names(tmp_path, "*.jpg") == ["a.jpg", "back\\slash.jpg"]


def test_directories_are_listed_in_the_order_of_their_names(tmp_path):
    names_ = [f"{name}/a.jpg" for name in ("c", "b/z", "a", "b/y", "d", "e")]
    fill(tmp_path, *names_)
    found = [os.path.relpath(keys.uri(ref.key), tmp_path) for ref in local_listing.match(choice(tmp_path / "**"))]
    assert found == sorted(names_)


def test_names_that_look_like_something_else(tmp_path):
    odd = [
        "trailing .jpg",
        "tab\t.jpg",
        "a%20b.jpg",
        "e\u0301.jpg",
        "\u00e9.jpg",
        "{a,b}.jpg",
        "#1.jpg",
        "a.jpg ",
        "-x.jpg",
    ]
    fill(tmp_path, *odd, "album.jpg/inside.png")
    (tmp_path / "empty").mkdir()
    assert names(tmp_path, "**") == sorted([*odd, "album.jpg/inside.png"])
    assert names(tmp_path, "*") == sorted(odd)
    assert names(tmp_path, "*.jpg") == sorted(odd[:7] + odd[8:])
    assert names(tmp_path, "{a,b}.jpg") == ["{a,b}.jpg"]


def test_what_is_no_file_is_listed_too(tmp_path):
    fill(tmp_path, "good.jpg", "album/inside.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, target in {
        "zero.jpg": "/dev/zero",
        "loop.jpg": "loop.jpg",
        "dangling.jpg": "nothing",
        "link.jpg": "good.jpg",
    }.items():
        (tmp_path / name).symlink_to(target)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.jpg"))
        assert listed(tmp_path / "**.jpg") == {
            f"{tmp_path}/{name}": size
            for name, size in {
                "good.jpg": 8,
                "link.jpg": 8,
                "album/inside.jpg": 16,
                "pipe.jpg": None,
                "zero.jpg": None,
                "loop.jpg": None,
                "dangling.jpg": None,
                "socket.jpg": None,
            }.items()
        }
    for name in ("pipe.jpg", "dangling.jpg"):
        assert listed(tmp_path / name) == {f"{tmp_path}/{name}": None}


def test_a_name_with_brackets_is_a_name_where_it_exists(tmp_path):
    fill(tmp_path, "a[1].jpg", "a1.jpg", "[2024] b/1.jpg", "2 b/2.jpg")
    assert list(listed(tmp_path / "a[1].jpg")) == [f"{tmp_path}/a[1].jpg"]
    assert list(listed(tmp_path / "[2024] b/**")) == [f"{tmp_path}/[2024] b/1.jpg"]
    (tmp_path / "a[1].jpg").unlink()
    assert list(listed(tmp_path / "a[1].jpg")) == [f"{tmp_path}/a1.jpg"]


def test_links_to_directories_are_followed(tmp_path):
    fill(tmp_path, "elsewhere/a.jpg", "elsewhere/deep/b.jpg", "sets/real/c.jpg")
    (tmp_path / "sets" / "linked").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path, "sets/*/*.jpg") == ["sets/linked/a.jpg", "sets/real/c.jpg"]
    assert names(tmp_path, "sets/**") == ["sets/linked/a.jpg", "sets/linked/deep/b.jpg", "sets/real/c.jpg"]
    assert names(tmp_path, "sets/*.jpg") == []
    (tmp_path / "all").symlink_to("sets")
    assert names(tmp_path, "all/**.jpg") == ["all/linked/a.jpg", "all/linked/deep/b.jpg", "all/real/c.jpg"]


def test_each_directory_is_listed_once(tmp_path):
    """Under its path without links if there is one, else under the first link to it; loops end."""
    fill(tmp_path, "p/real/a.jpg", "p/z/b.jpg", "other/c.jpg", "other/in/d.jpg")
    for name, target in {
        "p/0": "real",
        "p/z/up": "../..",
        "p/z/self": ".",
        "p/m": "../other",
        "p/k": "../other",
        "other/back": "../p",
        "other/in/up": "..",
    }.items():
        (tmp_path / name).symlink_to(target)
    assert names(tmp_path, "p/**") == ["p/k/c.jpg", "p/k/in/d.jpg", "p/real/a.jpg", "p/z/b.jpg"]
    assert names(tmp_path, "p/**/*.jpg") == names(tmp_path, "p/**")
    assert names(tmp_path, "p/*/*.jpg") == ["p/k/c.jpg", "p/real/a.jpg", "p/z/b.jpg"]
    # A link to what the pattern does not reach without the link.
    (tmp_path / "p" / "deep").symlink_to("k/in")
    assert "p/deep/d.jpg" in names(tmp_path, "p/*/*.jpg")


def test_a_link_is_followed_to_files_that_the_pattern_does_not_match_on_another_path(tmp_path):
    fill(tmp_path, "p/store/a.jpg", "p/store/deep/raw/b.jpg", "p/raw/c.jpg", "p/x/raw/d.jpg")
    (tmp_path / "p" / "y").mkdir()
    (tmp_path / "p" / "y" / "raw").symlink_to("../store")
    (tmp_path / "p" / "y" / "self").symlink_to(".")
    (tmp_path / "p" / "again").symlink_to("x")
    raw = ["p/raw/c.jpg", "p/store/deep/raw/b.jpg", "p/x/raw/d.jpg"]
    assert names(tmp_path, "p/**/raw/*.jpg") == [*raw, "p/y/raw/a.jpg"]
    assert names(tmp_path, "p/**/raw/**") == [*raw, "p/y/raw/a.jpg"]
    assert names(tmp_path, "p/**/raw/**/*.jpg") == [*raw, "p/y/raw/a.jpg"]
    assert names(tmp_path, "p/**/r[/a]w/*.jpg") == [*raw, "p/y/raw/a.jpg"]
    assert names(tmp_path, "p/**/y/raw/deep/raw/*.jpg") == ["p/y/raw/deep/raw/b.jpg"]
    assert names(tmp_path, "p/**raw/*.jpg") == [*raw, "p/y/raw/a.jpg"]
    assert names(tmp_path, "p/y**/*.jpg") == ["p/y/raw/a.jpg", "p/y/raw/deep/raw/b.jpg"]
    assert names(tmp_path, "p/**.jpg") == ["p/raw/c.jpg", "p/store/a.jpg", "p/store/deep/raw/b.jpg", "p/x/raw/d.jpg"]


def test_an_image_that_a_pattern_matches_under_two_paths_is_listed_once(tmp_path):
    fill(tmp_path, "p/album/x.jpg", "p/a.jpg", "p/b.jpg")
    (tmp_path / "p" / "album" / "up").symlink_to("..")
    assert names(tmp_path, "p/a**") == ["p/a.jpg", "p/album/up/b.jpg", "p/album/x.jpg"]


def test_a_link_that_leads_nowhere_may_have_led_to_a_directory(tmp_path):
    fill(tmp_path, "p/a.jpg", "p/sub/b.jpg")
    for name in ("p/album", "p/2024.05", "p/set.v2", "p/sub/more", "p/photo.jpg", "p/notes.txt", "p/.cache"):
        (tmp_path / name).symlink_to("/mnt/gone")
    (tmp_path / "p" / "loop").symlink_to("loop")
    places = ["p/2024.05", "p/album", "p/loop", "p/set.v2"]
    assert names(tmp_path, "p/**.png") == [*places, "p/sub/more"]
    found = listed(tmp_path / "p/*/*.jpg")
    assert sorted(os.path.relpath(path, tmp_path) for path, size in found.items() if size is None) == places
    assert names(tmp_path, "p/*.jpg") == ["p/a.jpg", "p/photo.jpg"]
    assert names(tmp_path, "p/**") == sorted(["p/a.jpg", "p/photo.jpg", "p/sub/b.jpg", "p/sub/more", *places])


def test_directories_that_may_not_be_listed_or_entered_are_listed_themselves():
    with open_directory() as place:
        fill(
            place,
            "good.jpg",
            "closed/inside.jpg",
            "half/inside.jpg",
            "half/sub/deep.jpg",
            "lost+found/x",
            ".trash/y.jpg",
        )
        fill(place, "photos1/a.jpg")
        (place / "link").symlink_to("closed")
        for name, mode in {"closed": 0, "half": 0o444, "lost+found": 0, ".trash": 0}.items():
            (place / name).chmod(mode)
        closed = {f"{place}/{name}": None for name in ("closed", "half", "lost+found", "link")}
        for pattern in ("**", "**.jpg", "**/*.jpg"):
            with unprivileged():
                found = listed(place / pattern)
            assert found == {f"{place}/good.jpg": 8, f"{place}/photos1/a.jpg": 13} | closed, pattern
        with unprivileged():
            assert listed(place / "*.jpg") == {f"{place}/good.jpg": 8}
            assert listed(place / "photos*/**") == {f"{place}/photos1/a.jpg": 13}
            assert listed(place / "*/*.jpg") == {f"{place}/photos1/a.jpg": 13} | closed
            for name in ("closed", "half", "link"):
                with pytest.raises(PermissionError, match="a directory that may not be listed: .*Permission denied"):
                    local.described(str(place / name))
            for name in ("closed", "half"):
                with pytest.raises(PermissionError):
                    local_listing.is_there(f"{place}/{name}/**")


def test_whether_there_is_anything_to_begin_at(tmp_path):
    fill(tmp_path, "p/a.jpg")
    (tmp_path / "link.jpg").symlink_to("nothing")
    for there in ("p/**", "p/a.jpg", "p/none*", "link.jpg"):
        assert local_listing.is_there(f"{tmp_path}/{there}")
    for gone in ("gone/**", "gone.jpg", "p/a.jpg/*", "p/a.jpg/b.jpg"):
        assert not local_listing.is_there(f"{tmp_path}/{gone}")
    assert not listed(tmp_path / "gone.jpg") and not listed(tmp_path / "p/a.jpg/b.jpg")
    assert local_listing.root(f"{tmp_path}/p/x*/y") == f"{tmp_path}/p"


def test_a_name_in_a_directory_that_may_not_be_entered_is_no_missing_file():
    with open_directory() as place:
        fill(place, "closed/a.jpg")
        (place / "closed").chmod(0)
        with unprivileged():
            assert listed(place / "closed/a.jpg") == {f"{place}/closed/a.jpg": None}
            with pytest.raises(PermissionError):
                local_listing.is_there(f"{place}/closed/a.jpg")


def test_where_the_listing_begins_is_missed_if_it_is_gone(tmp_path):
    """A mount that vanishes after the launch is no deletion of all that it held."""
    assert listed(tmp_path / "gone" / "**") == {f"{tmp_path}/gone": None}


def test_what_vanishes_while_it_is_listed_is_no_loss(tmp_path, monkeypatch):
    fill(tmp_path, "p/a.jpg", "p/b.jpg", "p/sub/c.jpg")
    status = local.status

    def vanish(path):
        if path.endswith("a.jpg"):
            for name in ("p/a.jpg", "p/sub/c.jpg"):
                (tmp_path / name).unlink()
            (tmp_path / "p" / "sub").rmdir()
        return status(path)

    monkeypatch.setattr(local, "status", vanish)
    assert names(tmp_path, "p/**") == ["p/b.jpg"]


def test_what_vanishes_behind_a_link_while_it_is_listed_is_missed(tmp_path, monkeypatch):
    """The link is still there, so that what it led to may be back tomorrow."""
    fill(tmp_path, "p/sub/a.jpg", "elsewhere/b.jpg")  # links come last
    (tmp_path / "p" / "link").symlink_to(tmp_path / "elsewhere")
    status = local.status

    def vanish(path):
        if path.endswith("a.jpg"):
            (tmp_path / "elsewhere").rename(tmp_path / "away")
        return status(path)

    monkeypatch.setattr(local, "status", vanish)
    assert listed(tmp_path / "p" / "**") == {f"{tmp_path}/p/sub/a.jpg": 11, f"{tmp_path}/p/link": None}


def test_a_directory_is_missed_where_a_mount_fails_and_shows_nothing_of_it(tmp_path, monkeypatch):
    fill(tmp_path, "p/a.jpg", "p/sub/b.jpg")
    stat = os.stat

    def fail(path, **options):
        if path == f"{tmp_path}/p/sub/.":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", fail)
    monkeypatch.setattr(os.path, "lexists", lambda path: False)  # which tells no error from a file that is gone
    assert listed(tmp_path / "p" / "**") == {f"{tmp_path}/p/a.jpg": 7, f"{tmp_path}/p/sub": None}


def test_hidden_and_other_files_are_counted(tmp_path):
    fill(tmp_path, "a.jpg", "._a.jpg", ".DS_Store", "a.txt", "b.TXT", "@eaDir/a.jpg/t.jpg", ".git/x", "deep/.b.jpg")
    chosen = choice(tmp_path / "**")
    assert [ref.key for ref in local_listing.match(chosen)] == [b"%s/a.jpg" % bytes(tmp_path)]
    assert chosen.left_out == {
        ("hidden", "._*"): 1,
        ("hidden", ".DS_Store"): 1,
        ("hidden", ".*"): 1,
        ("hidden", ".*/"): 1,  # directories count once
        ("hidden", "@eaDir/"): 1,
        ("other", ".txt"): 1,
        ("other", ".TXT"): 1,
    }
    assert names(tmp_path, "**", include_hidden=True) == sorted(
        ["a.jpg", "._a.jpg", ".DS_Store", "@eaDir/a.jpg/t.jpg", ".git/x", "deep/.b.jpg"]
    )
    assert names(tmp_path, "**/.git/*") == [".git/x"]
    assert names(tmp_path, "**.txt") == ["a.txt"]


def test_a_file_is_looked_at_once(tmp_path, monkeypatch):
    """A listing of millions has no time for more."""
    fill(tmp_path, *(f"p/{number}.jpg" for number in range(20)), *(f"p/{number}.txt" for number in range(20)))
    asked = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, *args, **kwargs: asked.append(path) or stat(path, *args, **kwargs))
    assert len(listed(tmp_path / "p" / "**")) == 20
    assert sorted(map(str, asked)) == sorted(
        [f"{tmp_path}/p/.", *(f"{tmp_path}/p/{number}.jpg" for number in range(20))]
    )
