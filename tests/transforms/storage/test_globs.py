"""transforms.storage.globs: what a pattern matches, in time that no pattern can blow up."""

import fnmatch
import glob
import itertools
import random
import re
import time

import pytest

from transforms.storage import globs


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/in/*", "/in/a.jpg", True),
        ("/in/*", "/in/out/part", False),
        ("/in/**", "/in/out/part", True),
        ("/in/a.jpg", "/in/a.jpg", True),
        ("/in/a.jpg", "/in/a.jpg/b", False),
        ("gs://b/**.jpg", "gs://b/x/y.jpg", True),
        ("gs://b/a[1].jpg", "gs://b/a[1].jpg", True),
        # `**/` stands for any number of directories.
        ("/in/**/*.jpg", "/in/a.jpg", True),
        ("/in/**/*.jpg", "/in/x/y/a.jpg", True),
        ("gs://b/**/c/*.jpg", "gs://b/c/a.jpg", True),
        ("/in/**/**/a.jpg", "/in/a.jpg", True),
        ("/in/x**/a.jpg", "/in/x/a.jpg", True),
        ("/in/x**/a.jpg", "/in/x1/y/a.jpg", True),
        ("/in/**/a.jpg", "/in/ba.jpg", False),
        ("/in/**/a*b**b", "/in/ab1b", True),
        # Names of this system may hold any character, and no wildcard but ** crosses a slash.
        ("/in/*.jpg", "/in/back\\slash.jpg", True),
        ("/in/*.jpg", "/in/new\nline.jpg", True),
        ("/in?a.jpg", "/in/a.jpg", False),
        ("/in[!x]a.jpg", "/in/a.jpg", False),
        ("/in[.-0]a.jpg", "/in/a.jpg", False),
        ("/in/[^a].jpg", "/in/b.jpg", False),
        ("/in/[\\d].jpg", "/in/1.jpg", False),
        ("/in/[\\d].jpg", "/in/\\.jpg", True),
        ("/in/**/a.jpg", "/in/new\nline/a.jpg", True),
        ("/in/*.jpg", "/in/a.jpg\n", False),
        ("/in/[!a].jpg", "/in/b.jpg", True),
        ("/in/[]a].jpg", "/in/].jpg", True),
        ("/in/[&&^~|-].jpg", "/in/^.jpg", True),
        ("/in/[a-c]?.jpg", "/in/b1.jpg", True),
        ("/in/[open.jpg", "/in/[open.jpg", True),
        ("/in/{a,b}.jpg", "/in/a.jpg", False),
        # In a bucket a name without wildcards is also that of a directory.
        ("gs://b/ds", "gs://b/ds/a/b.jpg", True),
        ("gs://b/ds", "gs://b/ds2/a.jpg", False),
        ("gs://b/d[[]1]", "gs://b/d[1]/a.jpg", True),
        ("gs://b/ds/", "gs://b/ds/a.jpg", True),
        ("gs://b", "gs://b/a.jpg", True),
    ],
)
def test_takes_in(pattern, path, expected):
    assert globs.takes_in(pattern, path) is expected


def test_patterns_match_as_in_python(tmp_path):
    """Python's own glob over all paths of three letters, for patterns at random; only there `**` is a whole name."""
    chosen = random.Random(7)
    names = ("a", "b", "ab")
    for first in names:
        for second in names:
            (tmp_path / first / second).mkdir(parents=True)
            for third in names:
                (tmp_path / first / second / f"{third}.c").touch()
                (tmp_path / first / f"{third}.c").touch()
    paths = [str(path) for path in tmp_path.rglob("*.c")]
    for _ in range(300):
        middle = [
            chosen.choice(["*", "**", "a*", "?", "*b", "[!a]*", "*a*", "**"]) for _ in range(chosen.randint(0, 3))
        ]
        pattern = "/".join([str(tmp_path), *middle, chosen.choice(["*.c", "?.c", "a*.c", "*b*"])])
        matches = globs.matcher(pattern)
        expected = {path for path in glob.glob(pattern, recursive=True) if path.endswith(".c")}
        assert {path for path in paths if matches(path)} == expected, pattern


def test_a_name_matches_as_by_fnmatch():
    chosen = random.Random(8)
    for _ in range(3000):
        pattern = "".join(chosen.choice("ab*?*[") for _ in range(chosen.randint(1, 8)))
        name = "".join(chosen.choice("ab[") for _ in range(chosen.randint(1, 8)))
        expected = fnmatch.fnmatchcase(name, re.sub(r"\*+", "*", pattern))
        assert globs.takes_in(f"gs://x/{pattern}*", f"gs://x/{name}") is (
            expected or fnmatch.fnmatchcase(name, f"{pattern}*")
        ), (pattern, name)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("**a" * 20 + "**b", "a" * 4000),
        ("*a" * 20 + "*b", "a" * 4000),
        ("**/a*a" * 12 + "/**/b", "aa/" * 1300),
        ("**/*a/" * 12 + "b", "a/" * 2000 + "c"),
        ("**/" * 30 + "b", "a/" * 2000),
    ],
    ids=["across", "in a name", "both", "directories", "nothing between"],
)
def test_no_pattern_takes_long(pattern, path):
    start = time.process_time()
    assert globs.takes_in(f"/p/{pattern}", f"/p/{path}") is False
    assert time.process_time() - start < 5  # a second place for each part would take years


def test_what_is_no_pattern_is_said():
    with pytest.raises(ValueError, match=re.escape("pattern='/p/[z-a]': expected a glob (bad character range")):
        globs.takes_in("/p/[z-a]", "/p/b")


def test_directories_that_may_hold_matches():
    holds = globs.may_hold("/p/s*/b*/x**/c.jpg")
    assert [holds(path) for path in ("/p/s1", "/p/s1/b", "/p/s1/b/x", "/p/s1/b/xx/any/z")] == [True] * 4
    assert [holds(path) for path in ("/p/t", "/p/s1/c", "/p/s1/b/y", "/p/s1/c/x")] == [False] * 4
    holds = globs.may_hold("/p/s*/b*/c.jpg")
    assert holds("/p/s1") and holds("/p/s1/b") and not holds("/p/s1/b/c")
    assert not globs.may_hold("/p/*.jpg")("/p/a")
    assert globs.may_hold("/p/**.jpg")("/p/a/b")
    assert not globs.may_hold("/p/photos*/**")("/p/lost+found")


def test_what_is_matched_below_a_directory_depends_on_its_position_alone():
    chosen = random.Random(9)
    below = ["".join(parts) for depth in range(3) for parts in itertools.product(("a/", "b/", "ab/"), repeat=depth)]
    for _ in range(200):
        names = [chosen.choice(["*", "**", "[a]", "b*", "**b", "a**"]) for _ in range(chosen.randint(0, 3))]
        pattern = "/".join(["/p", *names, chosen.choice(["[c]", "*", "**c"])])
        positions, matches = globs.Positions(pattern), globs.matcher(pattern)
        matched = {place: {rest for rest in below if matches(f"/p/{place}{rest}c")} for place in below}
        reached = {place: positions.of(f"/p/{place}".rstrip("/")) for place in below}
        for one, other in itertools.permutations(below, 2):
            assert not reached[one] <= reached[other] or matched[one] <= matched[other], (pattern, one, other)
    for pattern in ("/p/**", "/p/*/**/c.jpg", "/p/a**.jpg"):
        assert globs.Positions(pattern).of("/p/a") == globs.Positions(pattern).of("/p/a/b/a")


def test_brackets_in_a_name_that_exists_are_part_of_it(tmp_path):
    assert globs.literal_prefix(f"{tmp_path}/[a]/b[1].jpg") == f"{tmp_path}/"
    (tmp_path / "[a]").mkdir()
    assert globs.literal_prefix(f"{tmp_path}/[a]/b[1].jpg") == f"{tmp_path}/[a]/"
    assert globs.takes_in(f"{tmp_path}/[a]/**", f"{tmp_path}/[a]/out/part") is True
    assert globs.takes_in(f"{tmp_path}/[a]/**", f"{tmp_path}/a/out/part") is False
    (tmp_path / "[a]" / "b[1].jpg").touch()
    assert globs.literal_prefix(f"{tmp_path}/[a]/b[1].jpg") == f"{tmp_path}/[a]/b[1].jpg"
    (tmp_path / "l[1]").symlink_to("nothing")
    assert globs.literal_prefix(f"{tmp_path}/l[1]") == f"{tmp_path}/l[1]"
    assert globs.takes_in("gs://b/[a]/*", "gs://b/a/1") is True


def test_the_directories_at_the_front():
    assert globs.literal_directories("/p/q/*.jpg") == "/p/q/"
    assert globs.literal_directories("/p/q/a.jpg") == "/p/q/"
    assert globs.literal_directories("gs://b/d[[]1]/x*/y") == "gs://b/d[[]1]/"
    assert globs.literal_directories("gs://b/**") == "gs://b/"


def test_objects_or_directories():
    for pattern in ("gs://b/ds", "gs://b/ds/", "gs://b/d[[]1]", "s3://b/ds"):
        assert globs.is_object_or_directory(pattern)
    for pattern in ("gs://b/d*", "gs://b/d[1]", "/p/ds"):
        assert not globs.is_object_or_directory(pattern)
