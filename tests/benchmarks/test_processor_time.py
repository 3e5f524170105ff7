import os
import subprocess
import sys
import time

import pytest

from benchmarks.processor_time import Processes, Samples

_BURN = "import time\nwhile time.process_time() < {}: pass\n"


def test_time_between_samples_is_in_proportion():
    samples = Samples()
    for moment, seconds in ((0, 0), (10, 1), (20, 5)):
        samples.add(moment, seconds)
    assert samples.between(5, 15) == pytest.approx(0.5 + 2)


def test_children_of_children_count_after_their_end_and_strangers_do_not():
    marked, strange = Processes(), Processes()
    child = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {_BURN.format(0.5)!r}])\n{_BURN.format(0.3)}"
    )
    with marked.sampled() as samples:
        subprocess.run([sys.executable, "-c", child], env=os.environ | marked.variables, check=True)
    assert strange.seconds() == 0
    assert 0.5 < marked.seconds() < 2
    assert samples.between(0, time.time()) <= marked.seconds()
