"""transforms.decoders.child: a process seen from the worker. test_pool.py shows what several of them do."""

import dataclasses
import gc
import os
import time
from pathlib import Path

import pytest

from tests.helpers import descriptors
from tests.helpers.decoder_pools import SETTINGS, children, files, results
from transforms.decoders import pool
from transforms.decoders.job import InboxImage
from transforms.elements.records import EncodedImage, ImageRef

pytestmark = pytest.mark.slow


def test_libraries_of_a_process_start_no_threads_of_their_own(joined):
    process = children(joined())[0]._process
    assert b"\0OMP_NUM_THREADS=1\0" in Path(f"/proc/{process.pid}/environ").read_bytes()


@pytest.mark.parametrize(
    ("beat", "heard", "is_silent"),
    [(0, 0, False), (64.9, 0, False), (65.1, 0, True), (0, 599.9, False), (0, 600.1, True)],
    ids=["lives", "may be late", "is stopped", "may still read", "hangs in reading"],
)
def test_when_a_process_is_silent(joined, monkeypatch, beat, heard, is_silent):
    process = children(joined(dataclasses.replace(SETTINGS, processes=1)))[0]
    with monkeypatch.context() as patch:
        patch.setattr(process, "_heard", 1000 - heard)
        patch.setattr(process.shared, "silent_seconds", lambda: beat)
        patch.setattr(time, "monotonic", lambda: 1000)
        assert process.is_silent(60.0) is is_silent


def test_an_inbox_holds_the_images_of_its_job_alone(joined):
    process = children(joined())[0]
    refs = [ImageRef(b"/%d.jpg" % number) for number in range(3)]
    images = [EncodedImage(refs[0], b"a" * 1000), refs[1], EncodedImage(refs[2], b"bc")]
    assert list(process._with_inbox(images, 1)) == [InboxImage(refs[0], 0, 1000), refs[1], InboxImage(refs[2], 1000, 2)]
    assert list(process._with_inbox(images[2:], 1)) == [InboxImage(refs[2], 0, 2)]
    assert os.pread(process._inboxes[1], 2000, 0) == b"bc"


def test_a_process_costs_no_descriptor_once_it_is_gone(tmp_path, joined):
    kept, refs = joined(), files(tmp_path / "photos", 1)
    results(kept, refs)
    gc.collect()  # those of other tests
    before = descriptors.of("/memfd:decoder")
    settings = dataclasses.replace(SETTINGS, processes=1)
    for _ in range(2):
        user = pool.join(settings)
        results(user, refs)
        pool.leave(settings, user)
        assert settings not in pool._pools
        del user
        gc.collect()  # a process and its memory
        assert descriptors.of("/memfd:decoder") == before
    assert children(kept)[0]._process.poll() is None
