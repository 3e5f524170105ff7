"""transforms.elements.blocks: images one after the other become full blocks, each of one window."""

import numpy as np

from transforms.elements.blocks import Blocks
from transforms.elements.records import ImageInfo, ImageRef


def info(number):
    return ImageInfo(ImageRef(b"%d" % number), "", "png", 1, 1)


def add(blocks, number, window="w"):
    blocks.next_pixels[:] = number
    return [flat(block) for block in blocks.add(info(number), timestamp=number, window=window)]


def flat(windowed):
    block = windowed.value
    values = [int(pixels.max()) for pixels in block.pixels]
    assert [info.ref.key for info in block.infos] == [b"%d" % value for value in values]
    assert block.pixels.shape == (len(block), 2, 3, 3) and block.pixels.dtype == np.uint8
    return values, windowed.timestamp, windowed.windows


def test_a_block_is_full_or_the_last_of_its_bundle():
    blocks = Blocks((2, 3), 3)
    assert [add(blocks, number) for number in range(5)] == [[], [], [([0, 1, 2], 0, ("w",))], [], []]
    assert [flat(block) for block in blocks.finish()] == [([3, 4], 3, ("w",))]
    assert list(blocks.finish()) == []


def test_a_block_has_images_of_one_window():
    blocks = Blocks((2, 3), 3)
    assert add(blocks, 1, "a") == [] and add(blocks, 2, "b") == [([1], 1, ("a",))]
    assert add(blocks, 3, "b") == [] and add(blocks, 4, "b") == [([2, 3, 4], 2, ("b",))]


def test_full_blocks_share_no_memory():
    blocks = Blocks((1, 1), 1)
    blocks.next_pixels[:] = 1
    (first,) = blocks.add(info(1), 0, "w")
    blocks.next_pixels[:] = 2
    (second,) = blocks.add(info(2), 0, "w")
    assert not np.shares_memory(first.value.pixels, second.value.pixels) and first.value.pixels.max() == 1


def test_images_of_a_bundle_that_failed_are_forgotten():
    blocks = Blocks((2, 3), 2)
    add(blocks, 1)
    blocks.forget()
    assert add(blocks, 2) == [] and add(blocks, 3) == [([2, 3], 2, ("w",))]
