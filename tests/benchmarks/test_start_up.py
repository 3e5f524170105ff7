"""benchmarks.start_up over one round. No test asserts a time."""

import pytest

from benchmarks import start_up


@pytest.mark.slow
def test_the_first_vector_comes_after_the_imports_and_before_the_end():
    seconds = {name: of_rounds for name, (of_rounds,) in start_up.measure(1).items()}
    assert 0 < seconds["run_pipeline.py --help"] < seconds[start_up.FIRST_VECTOR] < seconds[start_up.SAMPLES]
