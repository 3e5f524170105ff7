"""Pools of decoder processes for tests: their settings, images for them, and what became of each image."""

import os

import numpy as np

from tests.helpers import data_generation as data
from transforms.decoders.job import Settings
from transforms.elements.records import Failure, ImageInfo, ImageRef
from transforms.images import decoding
from transforms.images.decode_settings import DecodeSettings

SETTINGS = Settings(2, DecodeSettings((24, 32)), 4, None, timeout=60.0)
# What a decoder process does at its start: images that end in a word make it hang, crash, or ask for too much memory.
HOSTILE = """
import ctypes, time
from transforms.images import decoding

decode = decoding.decode_into

def hostile(encoded, *args, **kwargs):
    if encoded.endswith(b"hang"):
        time.sleep(3600)
    if encoded.endswith(b"hold"):  # hangs in C, with Python's lock
        ctypes.PyDLL(None).sleep(3600)
    if encoded.endswith(b"crash"):
        ctypes.string_at(0)
    if encoded.endswith(b"memory"):
        try:
            bytearray(8 << 30)
        except MemoryError as error:
            raise decoding.OutOfMemory("too much") from error
    return decode(encoded, *args, **kwargs)

decoding.decode_into = hostile
"""


def files(directory, count, *words):
    """Returns the refs of photographs, and of others that end in a word each."""
    directory.mkdir(exist_ok=True)
    contents = {f"{seed}.jpg": data.jpeg(seed, 30, 40) for seed in range(count)}
    contents |= {f"{word}.jpg": data.jpeg(99, 30, 40) + word.encode() for word in words}
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return [ImageRef(os.fsencode(directory / name)) for name in contents]


def children(user):
    """Returns the processes of a user's pool, seen from the worker."""
    return user.pool._dispatcher.children


def results(user, images, at_once=7, after=lambda jobs: None):
    """Returns {name: result or pixels} of all images."""
    found = {}

    def take(decoded):
        for index, result in enumerate(decoded.done.results):
            is_failure = isinstance(result, Failure)
            key = result.key if is_failure else result.ref.key
            name = key.rpartition(b"/")[2].decode()
            assert name not in found
            found[name] = result if is_failure else (result, decoded.pixels[index].copy())

    for start in range(0, len(images), at_once):
        for decoded in user.submit(images[start : start + at_once]):
            take(decoded)
        after(start // at_once + 1)
    for decoded in user.rest():
        take(decoded)
    return found


def check(found, count, **failures):
    """Asserts that all photographs were decoded as `decode` does it, and that the others are failures."""
    for seed in range(count):
        info, pixels = found.pop(f"{seed}.jpg")
        expected = decoding.decode(data.jpeg(seed, 30, 40), (24, 32))
        assert isinstance(info, ImageInfo) and (info.format, info.height, info.width) == ("jpeg", 30, 40)
        np.testing.assert_array_equal(pixels, expected.pixels)
    assert {name: (failure.stage, failure.error) for name, failure in found.items()} == failures
