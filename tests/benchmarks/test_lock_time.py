"""benchmarks.lock_time: a profile of py-spy → seconds of the lock."""

import shutil

import pytest

from benchmarks import lock_time

PROFILE = """\
<module> (run_pipeline.py:8);main (pipeline/launch.py:40) 100
_run (t.py:1);process_bundle (apache_beam/x.py:1);process (apache_beam/transforms/core.py:3) 30
run (t.py:1);process_bundle (apache_beam/x.py:1);process (transforms/decode.py:82);open (PIL/Image.py:9) 20
run (t.py:1);process_bundle (apache_beam/x.py:1);timed (/src/transforms/models/hub.py:9);<genexpr> (x.py:1) 10
run (t.py:1);process_bundle (apache_beam/x.py:1);_load_once (transforms/models/engines/lazy.py:41);f (tf/a.py:1) 40
"""


def test_a_sample_counts_where_the_innermost_own_code_is():
    held = lock_time.read(PROFILE.splitlines(), samples_per_second=100)
    assert (held.whole, held.bundles, held.loading) == (2.0, 1.0, 0.4)
    assert held.places == {"apache_beam": 0.3, "transforms/decode.py": 0.2, "transforms/models": 0.1}


def test_without_py_spy_it_says_so_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lock_time.main(["--cache", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "benchmarks.lock_time: no py-spy on the PATH: pip install py-spy\n"
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("py-spy"), reason="py-spy, which nothing else needs, is not on the PATH")
def test_a_run_holds_the_lock_in_bundles_and_outside(capsys, tmp_path):
    assert lock_time.main(["--images", "64", "--cache", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("ms an image") == 2
