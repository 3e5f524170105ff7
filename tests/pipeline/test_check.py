"""pipeline.check: what is refused before any worker starts, with everything left as it was."""

import os
import subprocess
import sys

import pytest

from pipeline import check
from pipeline.attempts import complete_run
from pipeline.flags import options
from tests.helpers.cloud_storage import clients_of, paging_server
from tests.helpers.emulators import free_port
from tests.helpers.running import ROOT
from tests.helpers.unprivileged import open_directory, unprivileged
from transforms.models.spec import ModelFields
from transforms.output import layout, schema
from transforms.storage.stores import gcs


@pytest.fixture
def photos(tmp_path):
    """A directory with an image, as far as a listing can tell."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    return tmp_path / "photos"


def configured(output, *flags, run_id="night"):
    config, _ = options.parse([f"--output={output}", f"--run_id={run_id}", *map(str, flags)])
    return config


def names_below(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_every_input_has_to_match_something(photos, tmp_path):
    check.check_inputs(configured(tmp_path / "out", f"--input={photos}", f"--input={photos}/*.jpg"))
    with pytest.raises(ValueError, match=r"--input '.*/photos/\*\.png' matches nothing: expected at least one file"):
        check.check_inputs(configured(tmp_path / "out", f"--input={photos}", f"--input={photos}/*.png"))


def test_nothing_to_list_but_other_files(photos, tmp_path):
    (photos / "b.txt").write_bytes(b"x")
    (photos / "._a.jpg").write_bytes(b"x")
    matches_nothing = "matches nothing: expected at least one file; "
    for pattern, hint in {
        f"{photos}/*.png": f"1 file beside the matches looks like an image: .jpg 1; --input '{photos}/*' takes all",
        f"{photos}/b*": f"1 other file (.txt 1), no images by name; --input '{photos}/b*.txt' takes .txt",
        f"{photos}/?_a*": "1 hidden file (._* 1); --include_hidden takes hidden files too",
        f"{photos}/x*.{{jpg,png}}": "braces are no wildcards, so give --input for each alternative",
    }.items():
        with pytest.raises(ValueError) as raised:
            check.check_inputs(configured(tmp_path / "out", f"--input={pattern}"))
        assert str(raised.value) == f"--input {pattern!r} {matches_nothing}{hint}"
    check.check_inputs(configured(tmp_path / "out", f"--input={photos}/*.txt"))
    check.check_inputs(configured(tmp_path / "out", f"--input={photos}/?_a*", "--include_hidden"))


def test_files_that_hold_images_and_are_not_read(photos, tmp_path):
    for name, instead in {"p.zip": "unpack it", "*.parquet": "write its column of URIs as CSV"}.items():
        (photos / name.replace("*", "a")).write_bytes(b"x")
        with pytest.raises(ValueError, match=f"names no files that are read: {instead}"):
            check.check_inputs(configured(tmp_path / "out", f"--input={photos / name}"))


def test_a_pattern_that_directories_alone_match(tmp_path):
    (tmp_path / "my photos" / "2024").mkdir(parents=True)
    (tmp_path / "my photos" / "2024" / "a.jpg").write_bytes(b"x")
    pattern = f"{tmp_path}/my photos/*"
    with pytest.raises(ValueError) as raised:
        check.check_inputs(configured(tmp_path / "out", f"--input={pattern}"))
    assert str(raised.value).endswith(f"; directories match, and --input '{pattern}/**' takes what is in them")
    check.check_inputs(configured(tmp_path / "out", f"--input={pattern}/**"))
    with pytest.raises(ValueError, match="expected at least one file$"):
        check.check_inputs(configured(tmp_path / "out", f"--input={tmp_path}/my photos/x*"))


def test_an_input_that_may_not_be_listed():
    with open_directory() as place:
        for name, mode in {"closed": 0, "half": 0o444}.items():
            (place / name).mkdir()
            (place / name / "a.jpg").write_bytes(b"x")
            (place / name).chmod(mode)
            for pattern in (place / name, place / name / "a.jpg"):
                with unprivileged():
                    config = configured(place / "out", f"--input={pattern}")
                    with pytest.raises(ValueError, match="cannot be listed: .*Permission denied"):
                        check.check_inputs(config)


@pytest.mark.parametrize(
    ("name", "input_format"),
    [
        *(("l.csv", "list"), ("l.jsonl.gz", "list"), ("l.json", "list"), ("l.txt", "list")),
        *(("s-*.tar.gz", "tar"), ("s.tar.xz", "tar"), ("s.tfrecord", "tfrecord")),
    ],
)
def test_what_holds_no_single_images_is_refused_with_its_format(photos, tmp_path, name, input_format):
    (photos / name.replace("*", "1")).write_bytes(b'"a.jpg"\n')
    with pytest.raises(ValueError, match=f"names no images: give --input_format {input_format} too"):
        check.check_inputs(configured(tmp_path / "out", f"--input={photos / name}"))
    check.check_inputs(configured(tmp_path / "out", f"--input={photos / name}", f"--input_format={input_format}"))


def test_a_list_without_a_known_column_is_refused_with_its_columns(photos, tmp_path):
    (photos / "l.csv").write_text("name,label\na.jpg,cat\n")
    flags = (f"--input={photos}/*.csv", "--input_format=list")
    with pytest.raises(ValueError, match=r"^--input '.*/l\.csv': columns 'name', 'label': expected a column with one"):
        check.check_inputs(configured(tmp_path / "out", *flags))
    check.check_inputs(configured(tmp_path / "out", *flags, "--uri_column=name"))
    with pytest.raises(ValueError, match="expected a column 'nome'; --uri_column NAME says which has the URIs"):
        check.check_inputs(configured(tmp_path / "out", *flags, "--uri_column=nome"))
    (photos / "l.csv").write_bytes(b"\x1f\x8b\x08 broken")  # a failure of the run
    check.check_inputs(configured(tmp_path / "out", *flags))


@pytest.mark.parametrize("content", ["", "uri,label\n", "# nothing new\n"])
def test_lists_that_name_nothing_are_refused_as_a_pattern_that_matches_nothing(photos, tmp_path, content):
    (photos / "1.csv").write_text(content)
    flags = (f"--input={photos}/*.csv", "--input_format=list")
    with pytest.raises(ValueError, match=r"\*\.csv' names no images: expected a list with at least one"):
        check.check_inputs(configured(tmp_path / "out", *flags))
    (photos / "2.csv").write_text("uri\na.jpg\n")
    check.check_inputs(configured(tmp_path / "out", *flags))


def test_an_output_must_not_be_an_input_of_the_next_run(photos):
    check.check_inputs(configured(photos / "out", f"--input={photos}/*.jpg"))
    with pytest.raises(ValueError, match="--input 'nowhere://x/\\*' cannot be listed: "):
        check.check_inputs(configured(photos / "out", "--input=nowhere://x/*"))
    for pattern in (photos, f"{photos}/*/embeddings/**"):
        with pytest.raises(ValueError, match="lies within --input .*: a next run would read it"):
            check.check_inputs(configured(photos / "out", f"--input={photos}/*.jpg", f"--input={pattern}"))


def test_an_output_below_an_input_by_another_name(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    (tmp_path / "second").symlink_to("link")
    (photos / "elsewhere").symlink_to(tmp_path)
    for pattern, output in (
        (tmp_path / "link", tmp_path / "second" / "out"),
        (tmp_path / "link", photos / "out"),
        (photos, tmp_path / "link" / "out" / "deep"),
        (f"{tmp_path}/link/*/embeddings/**", tmp_path / "second" / "out"),
        (tmp_path / "link", photos / "elsewhere" / "out"),
    ):
        with pytest.raises(ValueError, match=rf"^--output '{output}' lies within --input '.*': a next run would read"):
            check.check_inputs(configured(output, f"--input={pattern}"))
    for output in (tmp_path / "photos2", tmp_path / "out"):
        check.check_inputs(configured(output, f"--input={tmp_path / 'link'}"))
    check.check_inputs(configured(tmp_path / "second" / "out", f"--input={tmp_path}/link/*.jpg"))


def test_an_output_is_looked_at_and_left_as_it_was(tmp_path, model):
    output = tmp_path / "out"
    (output / "runs").mkdir(parents=True)
    (output / "runs" / "night.json").write_bytes(b"x")
    for directory in ("embeddings", "failures"):
        (output / directory / "night" / ".parts").mkdir(parents=True)
        (output / directory / "night" / "part-00000-of-00001").write_bytes(b"x")
        (output / directory / "night" / ".parts" / "x").write_bytes(b"x")
    before = sorted(tmp_path.rglob("*"))
    check.check_output(configured(output), model)
    check.check_output(configured(output, "--overwrite"), model)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_that_is_not_there_can_be_written(tmp_path, model):
    check.check_output(configured(tmp_path / "not" / "there"), model)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match=r"--output '.*/file/out' cannot be written: .*Not a directory"):
        check.check_output(configured(tmp_path / "file" / "out"), model)


# Tries whether it may write until it is killed, in the middle of it.
TRY = """
import sys, tempfile
from pathlib import Path
from pipeline import check
make = tempfile.TemporaryFile
def made(*args, **kwargs):
    file = make(*args, **kwargs)
    print(list(Path(sys.argv[1]).iterdir()), flush=True)
    input()
tempfile.TemporaryFile = made
check._check_writable("--output", sys.argv[1])
"""


@pytest.mark.slow
def test_a_trial_that_is_killed_leaves_nothing(tmp_path):
    argv = [sys.executable, "-c", TRY, str(tmp_path)]
    process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "[]\n"
    process.kill()
    process.communicate()
    assert list(tmp_path.iterdir()) == []


def test_an_output_with_other_vectors_is_refused_and_left_as_it_is(tmp_path, model):
    output = tmp_path / "out"
    config = configured(output)
    schema.write(str(output), model.fields(config.top_classes))
    check.check_output(config, model)  # of this model: fine
    (output / layout.SCHEMA).unlink()
    schema.write(str(output), ModelFields("m", "d", 7))
    before = names_below(output)
    with pytest.raises(ValueError, match="holds vectors of 7 dimensions and model 'efficientnet_lite0' gives"):
        check.check_output(config, model)
    assert names_below(output) == before


def test_records_in_float16_are_not_mixed_with_others(tmp_path, model):
    narrow = configured(tmp_path / "out", "--vector_type=float16")
    schema.write(narrow.output, model.fields(narrow.top_classes), narrow.record_type)
    check.check_output(narrow, model)
    with pytest.raises(ValueError, match="holds vectors of 1280 dimensions in float16 and model .* dimensions: give"):
        check.check_output(configured(tmp_path / "out"), model)


def test_a_table_alone_needs_no_output(model):
    config, _ = options.parse(["--output_table=p1:d.t"])
    check.check_output(config, model)


def test_load_files_must_not_be_images_of_the_next_run(photos, tmp_path):
    config = configured(tmp_path / "out", f"--input={photos}", "--output_table=p1:d.t")
    check.check_temp_location(config, str(tmp_path / "temp"))
    assert names_below(tmp_path) == ["photos/a.jpg"]
    with pytest.raises(
        ValueError, match="--temp_location '.*/photos/temp' lies within --input .*: a run would read it"
    ):
        check.check_temp_location(config, str(photos / "temp"))
    config = configured(tmp_path / "out", f"--input={tmp_path}/x", "--output_table=p1:d.t")
    with pytest.raises(ValueError, match="--temp_location '.*/photos/a.jpg/temp' cannot be written: "):
        check.check_temp_location(config, str(photos / "a.jpg" / "temp"))
    with pytest.raises(ValueError, match="give --temp_location gs://BUCKET/DIRECTORY"):
        check.check_temp_location(config, None)


def test_a_directory_with_nothing_but_a_pipe_matches_something(tmp_path):
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "pipe.jpg")
    check.check_inputs(configured(tmp_path / "out", f"--input={tmp_path}/in"))


def test_brackets_in_a_directory_that_exists_are_part_of_its_name(tmp_path):
    (tmp_path / "photos [1]").mkdir()
    (tmp_path / "photos [1]" / "a.jpg").write_bytes(b"x")
    check.check_inputs(configured(tmp_path / "out", f"--input={tmp_path}/photos [1]"))


@pytest.mark.slow
def test_brackets_in_a_directory_of_a_bucket_are_refused_with_what_means_it(tmp_path, monkeypatch):
    with paging_server() as url, clients_of(monkeypatch, url):
        bucket = gcs.client().create_bucket("photos")
        for name in ("dir[1]/a.jpg", "dir1/a.jpg"):
            bucket.blob(name).upload_from_string(b"x")
        with pytest.raises(ValueError, match=r"^--input 'gs://photos/dir\[1\]/\*\*' cannot be listed: .*dir\[\[\]1\]/"):
            check.check_inputs(configured(tmp_path / "out", "--input=gs://photos/dir[1]/"))
        check.check_inputs(configured(tmp_path / "out", "--input=gs://photos/dir[[]1]/"))


@pytest.mark.slow  # a closed port is tried again for seconds
def test_a_bucket_that_cannot_be_reached_is_said_in_one_line(photos, tmp_path, model, monkeypatch):
    address = f"127.0.0.1:{free_port()}"
    message = rf"no connection to {address} \(Connection refused\): check the network or STORAGE_EMULATOR_HOST$"
    with clients_of(monkeypatch, f"http://{address}"):
        with pytest.raises(ValueError, match=rf"^--input 'gs://b/x' cannot be listed: {message}"):
            check.check_inputs(configured(tmp_path / "out", "--input=gs://b/x"))
        config = configured("gs://b/out", f"--input={photos}", "--output_table=p1:d.t")
        with pytest.raises(ValueError, match=f"^--output 'gs://b/out' cannot be read: {message}"):
            complete_run.find(configured("gs://b/out", f"--input={photos}"), model)
        with pytest.raises(ValueError, match=f"^--output 'gs://b/out' cannot be written: {message}"):
            check.check_output(config, model)
        with pytest.raises(ValueError, match=f"^--temp_location 'gs://b/temp' cannot be written: {message}"):
            check.check_temp_location(config, "gs://b/temp")
