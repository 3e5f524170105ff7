"""transforms.images.orientation: pictures are turned as ImageOps turns them. test_decoding.py has whole files."""

import io

import pytest
from PIL import Image, ImageOps

from tests.helpers import data_generation as data
from transforms.images import orientation


@pytest.mark.parametrize("number", range(10))
def test_each_number_turns_a_picture_as_pillow_does(number):
    exif = Image.Exif()
    exif[0x0112] = number
    with Image.open(io.BytesIO(data.encoded(data.photograph(0, 12, 16), "PNG", exif=exif))) as image:
        assert orientation.read(image) == number
        upright = ImageOps.exif_transpose(image)
        found = orientation.turned(image, number)
        assert found.tobytes() == upright.tobytes()
        assert orientation.as_stored(upright.size, number) == image.size
