"""transforms.models.training.training_set: labels from folders and CSVs, and a split that stays as it is."""

import subprocess
import sys

import pytest

from transforms.models.training import training_set

KEYS = [b"gs://b/%d/%05d.jpg" % (i % 3, i) for i in range(3000)]


@pytest.mark.parametrize(
    ("key", "label"),
    [
        (b"/photos/cat/1.jpg", "cat"),
        (b"gs://bucket/photos/red cat/1.jpg", "red cat"),
        (b"gs://bucket/1.jpg", "bucket"),
        (b"/photos/\xff/1.jpg", "\\xff"),
        (b"/shards/0.tar#cat/1.jpg", "cat"),
        (b"/shards/0.tar.gz#a/cat/1.jpg", "cat"),
        (b"/cat/0.tar#1.jpg", "cat"),
        (b"/photos/c#/1.jpg", "c#"),
    ],
)
def test_the_label_is_the_folder(key, label):
    assert training_set.folder_label(key) == label


@pytest.mark.parametrize("key", [b"1.jpg", b"/1.jpg"])
def test_without_a_folder_there_is_no_label(key):
    with pytest.raises(ValueError, match="expected a folder whose name is the class"):
        training_set.folder_label(key)


def test_a_csv_of_labels():
    lines = [
        " URI ,split,Label\n",
        "a.jpg,x, cat \n",
        "\n",
        '"gs://b/c,d.jpg",y,dog\n',
        "../e\udcff.jpg,,c\udcfft\n",
        "/f.jpg,,dog",
    ]
    assert training_set.read_labels(lines, "/lists/labels.csv") == {
        b"/lists/a.jpg": "cat",
        b"gs://b/c,d.jpg": "dog",
        b"/e\xff.jpg": "c\\xfft",
        b"/f.jpg": "dog",
    }
    assert training_set.read_labels(["uri,label", "a/b.jpg,x"], "gs://b/l/labels.csv") == {b"gs://b/l/a/b.jpg": "x"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "expected a header with the columns uri and label, found"),
        (["path,label", "a,b"], "found ['path', 'label']"),
        (["uri,label", "a.jpg,"], "line 2: expected a uri and a label, found ['a.jpg', '']"),
        (["uri,label", "a.jpg"], "line 2: expected a uri and a label"),
        (["uri,label", "a.jpg,x", "a.jpg,y"], "line 3: '/l/a.jpg' is 'y' here and 'x' above"),
        (["uri,label", 'a.jpg,"x\n', 'y"'], "expected a label of one line"),
    ],
)
def test_wrong_csvs(lines, said):
    with pytest.raises(ValueError, match="/l/labels.csv") as raised:
        training_set.read_labels(lines, "/l/labels.csv")
    assert said in str(raised.value)


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
def test_the_validation_side_is_as_large_as_asked(fraction):
    found = sum(training_set.is_validation(key, fraction) for key in KEYS)
    # Within 5 standard deviations of a binomial distribution: one in two million of such sets would not be.
    assert abs(found - fraction * 3000) < 5 * (3000 * fraction * (1 - fraction)) ** 0.5


def test_the_split_stays_when_images_are_added():
    before = training_set.split({key: key.split(b"/")[3].decode() for key in KEYS[:1000]}, 0.2)
    after = training_set.split({key: key.split(b"/")[3].decode() for key in reversed(KEYS)}, 0.2)
    assert before.validation and set(before.validation) < set(after.validation)
    assert set(before.training) < set(after.training)
    assert not {image.key for image in after.training} & {image.key for image in after.validation}
    assert len(after.training) + len(after.validation) == 3000 and after.classes == ("0", "1", "2")


def test_a_larger_fraction_adds_to_the_validation_side():
    sides = [{key for key in KEYS if training_set.is_validation(key, fraction)} for fraction in (0, 0.1, 0.3, 1)]
    assert not sides[0] and sides[0] < sides[1] < sides[2] < sides[3] == set(KEYS)


def test_the_split_is_the_same_in_every_process_and_version():
    # By hand: the first 8 bytes of SHA-256(b"a") are ca978112ca1bbdca, of SHA-256(b"b") 3e23e8160039594a.
    assert 0x3E23E8160039594A / 2**64 < 0.25 < 0xCA978112CA1BBDCA / 2**64
    assert training_set.is_validation(b"b", 0.25) and not training_set.is_validation(b"a", 0.25)


def test_what_cannot_be_split():
    with pytest.raises(ValueError, match="expected images of at least two classes, found none"):
        training_set.split({}, 0.2)
    with pytest.raises(ValueError, match="expected images of at least two classes, found only 'cat'"):
        training_set.split({b"1": "cat", b"2": "cat"}, 0.2)
    with pytest.raises(ValueError, match="class 'b': nothing to train on, the split puts its 1 of 1 images into valid"):
        training_set.split({b"a": "a", b"b": "b"}, 0.25)
    with pytest.raises(ValueError, match="none of the 2 images is for validation"):
        training_set.split({b"a": "a", b"b": "b"}, 0.2)
    assert training_set.split({b"a": "a", b"b": "b"}, 0).validation == ()


def test_labels_need_no_tensorflow():
    code = (
        "import sys, transforms.models.training.training_set; "
        "sys.exit(bool({'tensorflow', 'apache_beam'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
