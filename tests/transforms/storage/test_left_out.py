"""transforms.storage.left_out: which names a listing leaves out, and which pattern takes them all the same."""

import pytest
from PIL import Image

from transforms.images import reader
from transforms.storage import left_out
from transforms.storage.choice import Choice


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".DS_Store", ("hidden", ".DS_Store")),
        ("sub/._a.jpg", ("hidden", "._*")),
        (".trashed-1699999999-a.jpg", ("hidden", ".trashed-*")),
        (".a.jpg", ("hidden", ".*")),
        (".thumbs/1/a.jpg", ("hidden", ".*/")),
        ("@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", ("hidden", "@eaDir/")),
        ("__MACOSX/a.jpg", ("hidden", "__MACOSX/")),
        ("THUMBS.DB", ("hidden", "THUMBS.DB")),
        ("desktop.ini", ("hidden", "desktop.ini")),
        ("$RECYCLE.BIN/a.jpg", ("hidden", "$RECYCLE.BIN/")),
        ("Icon\r", ("hidden", "Icon")),
        ("a.txt", ("other", ".txt")),
        ("a.7z", ("other", ".7z")),
        ("a.xhtml", ("other", ".xhtml")),
        ("a.jpg.json", ("other", ".json")),
        ("a.jpg.supplemental-metadata", ("other", ".supplemental-metadata")),
        ("a.JPEG.part", ("other", ".part")),
        ("part-00000-of-00001.tfrecord", ("other", ".tfrecord")),
        *((f"a.{kind}", None) for kind in ("jpg", "JPG", "jfif", "jpe", "jp2", "HEIC", "dng", "svg", "jpg2")),
        *(
            (f"a.{kind}", None)
            for kind in ("jpg_large", "jpg ", "jpg!d", "jpeg~", "2024", "20240101", "folder", "original")
        ),
        *((name, ("other", name)) for name in ("README", "License", "Makefile", "SHA256SUMS", "_SUCCESS")),
        ("sub/README", ("other", "README")),
        ("train-00001-of-01024", ("other", "-of-*")),
        ("x.tfrecord-00001-of-01024", ("other", "-of-*")),
        ("one-of-two", None),
        ("a.sha256", ("other", ".sha256")),
        *((name, None) for name in ("README_1", "README/a", "a/b", "@user/a.jpg", "x..jpg", "photo.", "é.jpg")),
    ],
)
def test_names_below_a_directory(name, expected):
    for root in ("/photos/", "/.photos/@eaDir/", "gs://b/photos/", "gs://b/.cache/"):
        assert left_out.rule(f"{root}**")(f"{root}{name}") == expected
        assert Choice([f"{root}**"]).takes(f"{root}{name}") is not bool(expected)
    assert left_out.rule("gs://b/photos")(f"gs://b/photos/{name}") == expected


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/p/**.txt", "/p/a/b.txt"),
        ("/p/**/*_mask.x?", "/p/a_mask.xy"),
        ("/p/*.*t", "/p/a.txt"),
        ("/p/.thumbs/**", "/p/.thumbs/a.jpg"),
        ("/p/**/.thumbs/*.jpg", "/p/a/.thumbs/b.jpg"),
        ("/p/.*/**", "/p/.thumbs/b.jpg"),
        ("/p/**/.*", "/p/a/._b.jpg"),
        ("/p/**/@eaDir/**", "/p/a/@eaDir/b.jpg"),
        ("/p/**Thumbs.db", "/p/a/Thumbs.db"),
        ("/p/**.DS_Store", "/p/a/.DS_Store"),
        ("/p/**README", "/p/a/README"),
        ("/p/**-of-*", "/p/a/train-00001-of-01024"),
        ("/p/readme*", "/p/README"),
        ("gs://b/README", "gs://b/README"),
        ("/p/.a.jpg", "/p/.a.jpg"),
        ("/p/a.txt", "/p/a.txt"),
        ("gs://b/a.txt", "gs://b/a.txt"),
        ("gs://b/.a.jpg", "gs://b/.a.jpg"),
        ("gs://b/**/.a*", "gs://b/.a.jpg"),
        ("gs://b/x/../*", "gs://b/x/../a.jpg"),
        ("gs://b/**", "gs://b/x/../a.jpg"),
    ],
)
def test_a_pattern_takes_what_it_names(pattern, path):
    assert left_out.rule(pattern)(path) is None


def test_a_pattern_that_names_one_hidden_thing_takes_no_other():
    assert left_out.rule("/p/**/.thumbs/*.jpg")("/p/.thumbs/._a.jpg") == ("hidden", "._*")
    assert left_out.rule("/p/**/.thumbs/*.jpg")("/p/.cache/.thumbs/a.jpg") == ("hidden", ".*/")
    assert left_out.rule("/p/.thumbs/**")("/p/.thumbs/b/.thumbs/a.jpg") == ("hidden", ".*/")
    assert left_out.rule("/p/**/.*")("/p/.notes.txt") == ("other", ".txt")
    assert left_out.rule("/p/**.jpg")("/p/._a.jpg") == ("hidden", "._*")  # as in a shell, * begins with no dot


def test_in_a_bucket_a_name_is_a_directory_too():
    assert left_out.rule("gs://b/set.v2")("gs://b/set.v2/a.txt") == ("other", ".txt")
    assert left_out.rule("gs://b/.cache")("gs://b/.cache/.cache/a.jpg") == ("hidden", ".*/")


def test_hidden_files_that_are_wanted():
    assert left_out.rule("/p/**", include_hidden=True)("/p/@eaDir/._a.jpg") is None
    assert left_out.rule("/p/**", include_hidden=True)("/p/.git/a.txt") == ("other", ".txt")


def test_lists_and_shards_have_other_extensions_than_what_lies_beside_them():
    for input_format, others, own in (
        (
            "list",
            (
                "jpg",
                "md",
                "parquet",
                "html",
            ),
            ("csv", "json", "TXT", "csv.gz", "lst", "2024"),
        ),
        ("tar", ("jpg", "json", "txt", "parquet", "csv"), ("tar", "tgz", "tar.gz", "TAR", "shard")),
        ("tfrecord", ("jpg", "json", "pbtxt.txt"), ("tfrecord", "tfrecords", "gz", "rec", "tfrecord-00001-of-01024")),
    ):
        rule = left_out.rule("/p/**", input_format=input_format)
        assert all(rule(f"/p/a.{name}") == ("other", f".{name.rpartition('.')[2]}") for name in others), input_format
        assert not any(rule(f"/p/a.{name}") for name in own), input_format
        assert rule("/p/._a.csv") == ("hidden", "._*") and rule("/p/README") == ("other", "README")
        assert left_out.rule("/p/**.json", input_format=input_format)("/p/a.json") is None


def test_which_patterns_name_an_extension():
    for pattern in ("/p/*.jpg", "/p/**.jp*", "/p/a.[jJ]pg", "/p/x/*.?"):
        assert left_out.names_extension(pattern)
    for pattern in ("/p/*", "/p/**", "/p.d/*", "/p/*.*", "/p/IMG_*", "/p/a"):
        assert not left_out.names_extension(pattern)


def test_names_that_are_no_directories():
    assert all(left_out.is_file_name(path) for path in ("/p/a.JPG", "/p/notes.txt", "b.tar"))
    assert not any(left_out.is_file_name(path) for path in ("/p/album", "/p/set.v2", "/p.jpg/2024.05"))


def test_hidden_members_of_shards():
    assert left_out.hidden_kind("a/._b.jpg") == "._*" and left_out.hidden_kind("__MACOSX/b.jpg") == "__MACOSX/"
    assert left_out.hidden_kind("./a/b.jpg") is None and left_out.hidden_kind("../b.jpg") is None


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("/p/**.jpg", "/p/**"), ("/p/*/a*.png", "/p/*/a*"), ("/p/a?.png", "/p/a?.*"), ("/p/*", None), ("/p/a.jpg", None)],
)
def test_what_lies_beside(pattern, expected):
    assert left_out.beside(pattern) == expected


def test_whatever_is_opened_is_listed_by_its_extensions():
    extensions = [end for end, kind in Image.registered_extensions().items() if kind in reader.FORMATS]
    assert len(extensions) > 10
    assert [end for end in extensions if not Choice(["/p/**"]).takes(f"/p/a{end}")] == []
