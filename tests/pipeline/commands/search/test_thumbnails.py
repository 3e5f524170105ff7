"""Small pictures: of any image that can be read, and None of all others."""

import io

from PIL import Image

from pipeline.commands.search import thumbnails
from tests.helpers import data_generation as data
from transforms.elements import keys


def test_the_middle_of_an_image(tmp_path):
    image = Image.new("RGB", (300, 100), "red")
    image.paste("blue", (100, 0, 200, 100))
    image.save(tmp_path / "a.png")
    picture = thumbnails.picture(keys.of_uri(str(tmp_path / "a.png")), 32)
    assert picture.size == (32, 32) and picture.getpixel((16, 16)) == (0, 0, 255)


def test_a_jpeg_for_a_page(tmp_path):
    data.write_images(tmp_path, 1, height=600, width=800)
    jpeg = thumbnails.jpeg(keys.of_uri(str(tmp_path / "00000.jpg")))
    assert Image.open(io.BytesIO(jpeg)).size == (256, 256) and len(jpeg) < 64 * 2**10


def test_none_of_what_cannot_be_read_or_is_no_image(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    for uri in (f"{tmp_path}/a.jpg", f"{tmp_path}/none.jpg", f"{tmp_path}/a.tar#1.jpg", ""):
        assert thumbnails.jpeg(keys.of_uri(uri)) is None
