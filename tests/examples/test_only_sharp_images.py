"""A pipeline with a step between decoding and embedding."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from examples import only_sharp_images
from tests.helpers import data_generation as data
from tests.helpers.example_docs import first_command, shown
from tests.helpers.running import ROOT, read_rows
from transforms.elements.records import DecodedBlock, ImageInfo, ImageRef


def test_blurring_lowers_the_sharpness():
    image = Image.open(io.BytesIO(data.jpeg(1, 64, 64)))
    pixels = np.stack([np.asarray(image), np.asarray(image.filter(ImageFilter.GaussianBlur(3)))])
    sharp, blurred = only_sharp_images.sharpness(pixels)
    assert sharp > 10 * blurred


def test_a_block_keeps_its_sharp_images_and_the_others_fail():
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    noise[1] = 128
    infos = tuple(ImageInfo(ImageRef(key), "", "jpeg", 8, 8) for key in (b"a", b"grey", b"c"))
    kept, failed = only_sharp_images.keep_sharp(DecodedBlock(infos, noise), 100)
    assert [info.ref.key for info in kept.infos] == [b"a", b"c"]
    np.testing.assert_array_equal(kept.pixels, noise[[0, 2]])
    assert (failed.tag, failed.value.key) == ("blurred", b"grey")


def test_a_block_of_blurred_images_gives_nothing_to_embed():
    block = DecodedBlock((ImageInfo(ImageRef(b"grey"), "", "jpeg", 8, 8),), np.full((1, 8, 8, 3), 128, np.uint8))
    (failed,) = only_sharp_images.keep_sharp(block, 100)
    assert failed.value.message == "sharpness 0 is below 100"


@pytest.mark.slow
def test_the_blurred_images_are_printed_and_have_no_vector(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    only_sharp_images.main(first_command(only_sharp_images, output=tmp_path))
    assert sorted(capfd.readouterr().out.splitlines()) == sorted(shown(only_sharp_images).splitlines())
    keys = {row["image/key"].rpartition(b"/")[2] for row in read_rows(tmp_path)}
    assert len(keys) == 11 and not keys & {b"retina.avif", b"rocket_exif_rotated.jpg"}
