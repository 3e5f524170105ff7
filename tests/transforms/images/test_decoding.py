"""transforms.images.decoding: each way in which a naive decoder goes wrong, and each way in which a file is broken."""

import io
import random

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests import data_generation as data
from transforms.images import decoding

SIZE = (60, 80)


def decoded(encoded: bytes, size: tuple[int, int] = SIZE, **options: object) -> np.ndarray:
    return decoding.decode(encoded, size, **options).pixels


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    """Returns the colours in the middle of the four quarters."""
    height, width = pixels.shape[:2]
    return [tuple(int(v) for v in pixels[y, x]) for y in (height // 4, -height // 4) for x in (width // 4, -width // 4)]


QUARTERS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]


@pytest.mark.parametrize(
    ("image_format", "name", "options"),
    [
        ("JPEG", "jpeg", {"quality": 95, "subsampling": 0}),
        ("PNG", "png", {}),
        ("WEBP", "webp", {"quality": 95}),
        ("GIF", "gif", {}),
        ("TIFF", "tiff", {"compression": "tiff_lzw"}),
        ("BMP", "bmp", {}),
        ("AVIF", "avif", {"quality": 95}),
    ],
)
def test_formats(image_format, name, options):
    result = decoding.decode(data.encoded(data.quadrants(), image_format, **options), (30, 40))
    assert (result.format, result.height, result.width) == (name, 60, 80)
    assert result.pixels.shape == (30, 40, 3) and result.pixels.dtype == np.uint8
    assert np.abs(np.subtract(corners(result.pixels), QUARTERS)).max() <= 12  # lossy formats


def test_heic():
    pytest.importorskip("pillow_heif", reason="HEIC is an extra")
    result = decoding.decode(data.encoded(data.quadrants(), "HEIF", quality=95), (30, 40))
    assert (result.format, result.height, result.width) == ("heic", 60, 80)
    assert np.abs(np.subtract(corners(result.pixels), QUARTERS)).max() <= 12


def test_exact_pixels_where_nothing_is_to_do():
    photograph = data.photograph(0)
    assert np.array_equal(decoded(data.encoded(photograph, "PNG"), (96, 128)), np.asarray(photograph))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(orientation, image_format):
    upright = data.quadrants()
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    result = decoding.decode(data.encoded(stored, image_format, exif=exif), SIZE)
    assert (result.width, result.height) == stored.size
    assert np.abs(np.subtract(corners(result.pixels), QUARTERS)).max() <= 40  # subsampled chroma


def test_orientation_of_a_large_jpeg_that_is_drafted():
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = data.quadrants(1200, 800).transpose(Image.Transpose.ROTATE_90)
    result = decoding.decode(data.encoded(stored, exif=exif), (40, 60))
    assert (result.height, result.width) == (1200, 800)
    assert np.abs(np.subtract(corners(result.pixels), QUARTERS)).max() <= 8


def test_broken_exif_is_no_reason_to_lose_the_picture():
    encoded = data.encoded(data.quadrants(), exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20))
    assert decoded(encoded).shape == (60, 80, 3)


def test_greyscale():
    grey = data.photograph(1).convert("L")
    assert np.array_equal(decoded(data.encoded(grey, "PNG"), (96, 128)), np.asarray(grey.convert("RGB")))


def test_sixteen_bits_keep_their_scale():
    samples = np.linspace(0, 65535, 80 * 60).reshape(60, 80).astype(np.uint16)
    for image_format in ("PNG", "TIFF"):
        pixels = decoded(data.encoded(Image.fromarray(samples), image_format))
        assert np.abs(pixels[..., 0].astype(int) - (samples / 257).round()).max() == 0
        assert (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()


def test_floating_point_is_refused_by_name():
    with pytest.raises(decoding.UnsupportedColour, match="floating point"):
        decoded(data.encoded(Image.new("F", (8, 8), 0.5), "TIFF"))


def test_bilevel():
    assert set(decoded(data.encoded(Image.new("1", (80, 60), 1), "PNG")).ravel()) == {255}


def test_cmyk():
    cmyk = data.encoded(data.quadrants().convert("CMYK"), quality=95, subsampling=0)
    assert np.abs(np.subtract(corners(decoded(cmyk)), QUARTERS)).max() <= 12


def test_lab():
    lab = ImageCms.profileToProfile(
        data.quadrants(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert (
        np.abs(np.subtract(corners(decoded(data.encoded(lab, "TIFF"))), QUARTERS)).max() <= 25
    )  # 8-bit Lab is coarse at the edge of the gamut


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_white(mode):
    if mode == "P":
        image = Image.new("P", (80, 60), 1)
        image.putpalette([10, 20, 30, 40, 50, 60])
        encoded = data.encoded(image, "PNG", transparency=1)
    else:
        encoded = data.encoded(Image.new(mode, (80, 60), (0,) * len(mode)), "PNG")
    assert set(decoded(encoded).ravel()) == {255}


def test_half_transparent_red_over_white():
    encoded = data.encoded(Image.new("RGBA", (80, 60), (255, 0, 0, 128)), "PNG")
    assert np.abs(decoded(encoded)[5, 5].astype(int) - (255, 127, 127)).max() <= 1


def test_hidden_colour_does_not_bleed_in_when_resized():
    pixels = np.zeros((60, 80, 4), np.uint8)
    pixels[..., 1] = 255  # a transparent green ...
    pixels[20:40, 20:60] = (0, 0, 255, 255)  # ... around an opaque blue
    small = decoded(data.encoded(Image.fromarray(pixels), "PNG"), (7, 9)).astype(int)
    assert (small[..., 1] <= small[..., 0] + 2).all()  # between white and blue, green never leads red


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (80, 60), colour) for colour in ("red", "blue")]
    for image_format in ("GIF", "WEBP", "PNG"):
        animated = data.encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
        assert np.abs(decoded(animated)[9, 9].astype(int) - (255, 0, 0)).max() <= 3


def test_embedded_profile_is_converted_to_srgb():
    swapped = data.encoded(data.quadrants(), "PNG", icc_profile=data.swapped_profile())
    expected = [(0, 255, 0), (255, 0, 0), (0, 0, 255), (255, 255, 0)]
    assert np.abs(np.subtract(corners(decoded(swapped)), expected)).max() <= 3  # 16-bit fixed point in the profile


def test_profile_under_transparency():
    image = data.quadrants().convert("RGBA")
    image.putalpha(128)
    pixels = corners(decoded(data.encoded(image, "PNG", icc_profile=data.swapped_profile())))
    assert np.abs(np.subtract(pixels[0], (127, 255, 127))).max() <= 3


@pytest.mark.parametrize("profile", [b"no profile", data.swapped_profile()[:200]], ids=["noise", "truncated"])
def test_broken_profile_is_ignored(profile):
    assert corners(decoded(data.encoded(data.quadrants(), "PNG", icc_profile=profile))) == QUARTERS


def test_profile_for_other_channels_is_ignored():
    cmyk = data.encoded(data.quadrants().convert("CMYK"), icc_profile=data.swapped_profile(), quality=95, subsampling=0)
    assert np.abs(np.subtract(corners(decoded(cmyk)), QUARTERS)).max() <= 12


def test_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photograph = data.photograph(5)
    pixels = decoded(data.encoded(photograph, "PNG", icc_profile=profile), (96, 128))
    assert np.array_equal(pixels, np.asarray(photograph))


def test_stretch_shows_everything():
    assert corners(decoded(data.encoded(data.quadrants(), "PNG"), (40, 40), resize_mode="stretch")) == QUARTERS


def test_crop_takes_the_centre():
    striped = Image.new("RGB", (90, 30), "white")
    striped.paste("red", (30, 0, 60, 30))
    pixels = decoded(data.encoded(striped, "PNG"), (20, 20), resize_mode="crop")
    # Antialiasing looks a pixel beyond the cut; inside there is nothing but the centre.
    assert np.array_equal(np.unique(pixels[1:-1, 1:-1].reshape(-1, 3), axis=0), [[255, 0, 0]])


@pytest.mark.parametrize("stored", [(90, 30), (30, 90)], ids=["wide", "high"])
def test_pad_is_black_and_centred(stored):
    pixels = decoded(data.encoded(Image.new("RGB", stored, "white"), "PNG"), (30, 30), resize_mode="pad")
    white = pixels.all(axis=2)
    inside = np.zeros((30, 30), bool)
    if stored[0] > stored[1]:
        inside[10:20] = True
    else:
        inside[:, 10:20] = True
    assert np.array_equal(white, inside)


def test_resize_is_antialiased():
    checkers = np.indices((400, 400)).sum(axis=0) % 2 * 255
    pixels = decoded(data.encoded(Image.fromarray(checkers.astype(np.uint8)), "PNG"), (40, 40))
    assert np.abs(pixels.astype(int) - 127).max() <= 2  # without antialiasing: black and white


def test_draft_agrees_with_a_full_decode():
    large = data.photograph(9, 900, 1200)
    drafted = decoded(data.encoded(large, quality=95), (112, 112)).astype(int)
    full = np.asarray(large.resize((112, 112), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(drafted - full).mean() < 1.5  # levels of 255


def test_unknown_resize_mode():
    with pytest.raises(decoding.ImageError, match="stretch, crop, pad"):
        decoded(data.jpeg(), resize_mode="fill")


@pytest.mark.parametrize("name", data.broken_images())
def test_broken_images(name):
    content, error = data.broken_images()[name]
    with pytest.raises(decoding.ImageError) as raised:
        decoded(content)
    assert type(raised.value).__name__ == error


def test_no_other_format_is_opened_whatever_the_name_says():
    Image.init()
    for image_format in ("PPM", "TGA", "ICNS", "PCX", "SGI"):
        with pytest.raises(decoding.UnknownFormat, match="expected one of jpeg, png"):
            decoded(data.encoded(data.quadrants(), image_format))
    with pytest.raises(decoding.UnknownFormat, match="begins with b'%!PS-Ado'"):
        decoded(data.eps())


def test_max_pixels_is_checked_before_decoding():
    # All but the header is missing: only a check on the header can see that it is too large.
    header = data.encoded(data.photograph(0), "PNG")[:100]
    with pytest.raises(decoding.TooManyPixels, match="at most 1000 pixels .* 128x96"):
        decoded(header, max_pixels=1000)
    assert decoded(data.jpeg(), max_pixels=128 * 96).shape == (60, 80, 3)


def test_gif_frame_larger_than_its_header():
    gif = bytearray(data.encoded(data.quadrants(), "GIF"))
    gif[6:10] = (1).to_bytes(2, "little") * 2  # the logical screen: 1×1
    with pytest.raises(decoding.TooManyPixels):
        decoded(bytes(gif), max_pixels=1000)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_mutated_bytes_raise_nothing_but_image_errors(image_format):
    encoded = data.encoded(data.photograph(7, 48, 64), image_format)
    rng = random.Random(image_format)
    outcomes = set()
    for _ in range(150):
        mutated = bytearray(encoded)
        for _ in range(rng.randint(1, 12)):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        if rng.random() < 0.3:
            del mutated[rng.randrange(1, len(mutated)) :]
        try:
            decoding.decode(bytes(mutated), (32, 32), max_pixels=10**6)
            outcomes.add("decoded")
        except decoding.ImageError as error:
            outcomes.add(type(error).__name__)
    assert "CorruptImage" in outcomes or "UnknownFormat" in outcomes


def test_decoding_leaves_no_file_open():
    stream = io.BytesIO(data.jpeg())
    decoded(stream.getvalue())
    assert not stream.closed
