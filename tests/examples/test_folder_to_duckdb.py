"""The images of the package in Parquet files, and SQL over them."""

import pytest

from examples import folder_to_duckdb
from tests.helpers.example_docs import first_command, shown
from tests.helpers.running import ROOT, read_rows

pytestmark = pytest.mark.slow


def test_the_nearest_images_are_printed_as_shown_and_asking_again_embeds_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    argv = first_command(folder_to_duckdb, output=tmp_path)
    assert folder_to_duckdb.main(argv) == 0
    assert "13 images listed = 13 embedded" in (printed := capfd.readouterr().out)
    assert shown(folder_to_duckdb) in printed
    assert len(read_rows(tmp_path, suffix="parquet")) == 13

    without_input = argv[argv.index("--output") :]
    assert folder_to_duckdb.main([*without_input, "--top", "1"]) == 0
    printed = capfd.readouterr().out
    assert "listed" not in printed and "cat_animated.webp" in printed and "astronaut.jpg" not in printed


def test_a_run_that_is_refused_gives_its_exit_code(tmp_path, capfd):
    argv = ["--input", str(tmp_path / "nowhere" / "*.jpg"), "--output", str(tmp_path), "--like", "cat.jpg"]
    assert folder_to_duckdb.main(argv) == 2
    assert "matches nothing" in capfd.readouterr().err
