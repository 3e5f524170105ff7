"""transforms.storage.choice: what is taken, and each file that is left out counted once."""

from transforms.storage.choice import FURTHER, MAX_KINDS, Choice, by_kind


def left_out(patterns, paths, **flags):
    """Returns what the choices for all patterns have counted, and which paths they take."""
    counted, taken = {}, set()
    for number in range(len(patterns)):
        choice = Choice(patterns, number, **flags)
        taken |= {path for path in paths if choice.takes(path)}
        for what, files in choice.left_out.items():
            counted[what] = counted.get(what, 0) + files
    return counted, taken


def test_images_beside_the_matches():
    paths = ["/p/a.jpg", "/p/A.JPG", "/p/b.jpeg", "/p/sub/c.png", "/p/README", "/p/n.txt", "/p/._d.png", "/p/.x/e.png"]
    beside = {("beside", ".JPG"): 1, ("beside", ".jpeg"): 1, ("beside", ".png"): 1}
    assert left_out(["/p/**.jpg"], paths) == (beside, {"/p/a.jpg"})
    assert left_out(["/p/**/*.jpg"], paths) == (beside, {"/p/a.jpg"})
    del beside["beside", ".png"]  # it lies deeper
    assert left_out(["/p/*.jpg"], paths) == (beside, {"/p/a.jpg"})
    assert left_out(["/p/x*.jpg"], paths) == ({}, set())
    assert left_out(["/p/**.jpg"], paths, input_format="list") == ({}, {"/p/a.jpg"})


def test_what_another_pattern_takes_is_not_left_out():
    paths = ["/p/a.jpg", "/p/b.png", "/p/c.txt", "/p/d.gif", "/p/._e.jpg"]
    patterns = ["/p/**.jpg", "/p/**.png", "/p/**.txt"]
    expected = {("beside", ".gif"): 1, ("hidden", "._*"): 1}, {"/p/a.jpg", "/p/b.png", "/p/c.txt"}
    assert left_out(patterns, paths) == expected
    assert left_out(patterns[::-1], paths) == expected
    assert left_out(["/p/**", "/p/*"], paths) == ({("other", ".txt"): 1, ("hidden", "._*"): 1}, {*paths[:2], paths[3]})


def test_in_a_bucket_a_name_is_a_directory_too():
    paths = ["gs://b/ds", "gs://b/ds/a.jpg", "gs://b/ds/a.txt", "gs://b/ds2/a.jpg"]
    assert left_out(["gs://b/ds"], paths) == ({("other", ".txt"): 1}, set(paths[:2]))
    assert left_out(["gs://b/ds/a.txt"], paths) == ({}, {"gs://b/ds/a.txt"})


def test_a_name_with_brackets_is_taken():
    assert Choice(["gs://b/a[1].jpg"]).takes("gs://b/a[1].jpg")


def test_hidden_directories():
    choice = Choice(["/p/**", "/p/x/**"], 1)
    assert choice.hides("/p/x/.git") and not choice.hides("/p/x/git") and not choice.hides("/p/x/set.v2")
    assert choice.left_out == {}  # the first pattern has counted it
    alone = Choice(["/p/**"])
    assert alone.hides("/p/.git") and alone.hides("/p/.git/objects") and alone.left_out == {("hidden", ".*/"): 2}
    assert not Choice(["/p/**"], include_hidden=True).hides("/p/.git")


def test_counts_have_an_end():
    choice = Choice(["/p/**"])
    for number in range(3 * MAX_KINDS):
        assert not choice.takes(f"/p/a.x{number}")
    assert len(choice.left_out) == MAX_KINDS + 1
    assert choice.left_out["other", FURTHER] == 2 * MAX_KINDS
    assert not choice.takes("/p/b.x0") and choice.left_out["other", ".x0"] == 2


def test_counts_as_a_report_has_them():
    counted = {("other", ".c"): 1, ("hidden", "._*"): 2, ("other", ".b"): 3, ("other", ".a"): 1}
    assert list(by_kind(counted)["other"].items()) == [(".b", 3), (".a", 1), (".c", 1)]
    assert by_kind(counted)["hidden"] == {"._*": 2} and by_kind({}) == {}
