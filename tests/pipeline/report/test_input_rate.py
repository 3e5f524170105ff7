"""pipeline.report.input_rate: what a machine could feed, from constructed measurements."""

import pytest

from pipeline.report import input_rate
from pipeline.report.input_rate import InputRate
from transforms.elements.records import StageSeconds

IMAGES = 10_000


def stages(process, decoder, lock=2.0):
    """The stages of a run whose process and decoder kept cores busy for so many seconds, and held the lock."""
    return {
        "bundle": StageSeconds.of("bundle", 100.0, items=IMAGES, calls=2, core_seconds=process, lock_seconds=lock),
        "decode": StageSeconds.of("decode", 50.0, items=IMAGES, core_seconds=decoder),
    }


def of(times, *, in_processes=False, elsewhere=False, cores=8, worker_processes=1, decoders=None):
    return input_rate.of_run(
        times,
        decodes_in_processes=in_processes,
        decodes_elsewhere=elsewhere,
        cores=cores,
        worker_processes=worker_processes,
        decoder_processes=decoders,
    )


def test_threads_decode_without_the_lock():
    # 0.2 ms with the lock, and 0.8 ms on 8 cores: 1 / (0.0002 + 0.0008 / 8).
    measured = of(stages(process=10.0, decoder=8.0))
    assert (measured.core_seconds, measured.lock_seconds) == pytest.approx((0.001, 0.0002))
    assert (measured.images_per_second, measured.of_lock) == pytest.approx((3333.3, 5000), rel=1e-4)


def test_processes_decode_beside_the_threads():
    # 0.2 ms with the lock, 0.1 ms of other threads on 8 cores, and 1.4 ms of decoders beside it.
    measured = of(stages(process=3.0, decoder=14.0), in_processes=True)
    assert (measured.core_seconds, measured.lock_seconds) == pytest.approx((0.0017, 0.0002))
    assert measured.images_per_second == pytest.approx(min(8 / 0.0017, 1 / (0.0002 + 0.0001 / 8)))


def test_the_time_of_the_decoder_in_the_process_is_without_the_lock():
    """Where cores are scarce, a thread that holds the lock waits for one."""
    assert of(stages(process=10.0, decoder=8.5, lock=6.0)).lock_seconds == pytest.approx(0.00015)
    assert of(stages(process=1.0, decoder=8.5, lock=6.0), in_processes=True).lock_seconds == pytest.approx(0.0001)


@pytest.mark.parametrize(("decoders", "images_per_second"), [(1, 714.3), (3, 2142.9), (50, 4705.9), (None, 4705.9)])
def test_a_decoder_process_takes_a_core_at_most(decoders, images_per_second):
    """An image takes 1.4 ms of it."""
    measured = of(stages(process=3.0, decoder=14.0), in_processes=True, decoders=decoders)
    assert measured.images_per_second == pytest.approx(images_per_second, rel=1e-4)
    assert of(stages(process=3.0, decoder=2.0), decoders=1).images_per_second > 3000  # threads


def test_threads_that_read_count_once():
    """They are threads of the process, whose time has that of all its threads."""
    times = stages(process=10.0, decoder=2.0) | {"read": StageSeconds.of("read", 1.0, items=IMAGES, core_seconds=5.0)}
    assert of(times).core_seconds == pytest.approx(0.001)


def test_what_other_machines_decode_takes_no_core_here():
    measured = of(stages(process=2.0, decoder=100.0), elsewhere=True)
    assert (measured.core_seconds, measured.lock_seconds) == pytest.approx((0.0002, 0.0002))


@pytest.mark.parametrize(
    ("cores", "worker_processes", "images_per_second"),
    # 1 / 0.001; 1 / (0.0002 + 0.0008 / 2), … / 8, … / 64; each of 8 processes on a core of its own
    [(1, 1, 1000), (2, 1, 1666.7), (8, 1, 3333.3), (64, 1, 4705.9), (8, 8, 8000)],
)
def test_the_lock_limits_a_process_and_cores_a_machine(cores, worker_processes, images_per_second):
    measured = InputRate.of(0.001, 0.0002, cores, worker_processes)
    assert measured.images_per_second == pytest.approx(images_per_second, rel=1e-4)


@pytest.mark.parametrize(("rate", "cores"), [(1, 1), (1000, 1), (1001, 2), (4500, 5)])
def test_the_cores_of_a_device(rate, cores):
    assert InputRate.of(0.001, 0.0002, 2, 1).cores_for(rate) == cores


FEW = StageSeconds.of("bundle", 9.0, items=999, core_seconds=1.0)
MANY = StageSeconds.of("bundle", 9.0, items=1000)


@pytest.mark.parametrize(
    "times", [{}, {"bundle": FEW}, {"bundle": MANY}], ids=["nothing embedded", "few images", "no clock"]
)
def test_without_a_measurement_there_is_no_rate(times):
    assert of(times) is None


def test_a_lock_that_was_hardly_held():
    assert of(stages(process=5.0, decoder=5.1)).lock_seconds > 0


def test_facts_and_text():
    measured = InputRate.of(0.00036, 0.00021, 2, 1)
    facts = {"images_per_second": 3508.8, "core_ms": 0.36, "lock_ms": 0.21, "cores": 2, "worker_processes": 1}
    assert measured.facts() == facts
    text = (
        "a device of 3,509 images/s: an image takes 0.36 ms of a core and 0.21 ms of Python's lock; "
        "0.4 cores for each 1,000 images/s"
    )
    assert measured.text() == InputRate.of_facts(facts).text() == text


def test_facts_that_were_rounded_to_nothing_are_a_rate():
    facts = {"images_per_second": 12.0, "core_ms": 0.0, "lock_ms": 0.0, "cores": 2, "worker_processes": 1}
    assert InputRate.of_facts(facts).cores_for(1e7) == 1


def test_a_thousand_images_are_enough():
    assert of({"bundle": StageSeconds.of("bundle", 9.0, items=1000, core_seconds=1.0)}).core_seconds == 0.001
