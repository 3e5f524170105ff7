"""benchmarks.known_images: a run skips what the records say that an earlier one has embedded."""

import pytest

from benchmarks import known_images


@pytest.mark.slow
def test_a_run_over_few_images(capsys, tmp_path):
    assert known_images.main(["--images", "450", "--new", "30", "--cache", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("450 images, 30 of them new: ")
    assert not any((tmp_path / "scratch").iterdir())
