"""transforms.images.decoding: each way in which a naive decoder goes wrong, and each way in which a file is broken."""

import contextlib
import io
import random
import re

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from tests.helpers import data_generation as data
from tests.helpers import jpeg_files
from transforms.images import colour, decoding, fast_jpeg, jpeg_header, reader, samples
from transforms.images.decode_settings import MAX_PIXELS_DEFAULT, MAX_PIXELS_LIMIT, DecodeSettings
from transforms.images.resizing import RESIZE_MODES, Resizing

SIZE = (60, 80)

# How an upright picture is turned to be stored under an EXIF orientation.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned(upright: Image.Image, orientation: int, image_format: str, **options: object) -> bytes:
    """Returns a file that shows `upright` once its EXIF orientation is undone."""
    stored = upright.transpose(STORED[orientation]) if orientation in STORED else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    return data.encoded(stored, image_format, exif=exif, **options)


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
def test_each_format_gives_its_name_size_and_pixels(image_format, name, options):
    result = decoding.decode(data.encoded(data.quadrants(), image_format, **options), (30, 40))
    assert (result.format, result.height, result.width) == (name, 60, 80)
    assert result.pixels.shape == (30, 40, 3) and result.pixels.dtype == np.uint8
    assert np.abs(np.subtract(corners(result.pixels), QUARTERS)).max() <= 12  # lossy formats


def test_phones_jpegs_with_more_pictures_behind_them():
    pictures = data.encoded(data.quadrants(), "MPO", save_all=True, append_images=[Image.new("RGB", (80, 60))])
    result = decoding.decode(pictures, (30, 40))
    assert (result.format, result.height, result.width) == ("jpeg", 60, 80)
    assert np.abs(np.subtract(corners(result.pixels), QUARTERS)).max() <= 40  # subsampled chroma


def test_heic_gives_its_name_size_and_pixels():
    pytest.importorskip("pillow_heif", reason="HEIC is an extra")
    result = decoding.decode(data.encoded(data.quadrants(), "HEIF", quality=95), (30, 40))
    assert (result.format, result.height, result.width) == ("heic", 60, 80)
    assert np.abs(np.subtract(corners(result.pixels), QUARTERS)).max() <= 12


def test_exact_pixels_where_nothing_is_to_do():
    photograph = data.photograph(0)
    assert np.array_equal(decoded(data.encoded(photograph, "PNG"), (96, 128)), np.asarray(photograph))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_orientation_in_exif_turns_the_pixels(orientation, image_format):
    result = decoding.decode(turned(data.quadrants(), orientation, image_format), SIZE)
    assert (result.width, result.height) == ((60, 80) if orientation >= 5 else (80, 60))
    assert np.abs(np.subtract(corners(result.pixels), QUARTERS)).max() <= 40  # subsampled chroma


@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_turned_equals_upright_pixel_for_pixel(image_format, orientation, resize_mode):
    upright = data.photograph(3, 90, 160)
    expected = decoded(data.encoded(upright, image_format), (48, 96), resizing=resize_mode)
    pixels = decoded(turned(upright, orientation, image_format), (48, 96), resizing=resize_mode)
    # A PNG on its side is resized on its side: Pillow rounds between the two axes, and takes them in the other order.
    rounding = 1 if image_format == "PNG" and orientation >= 5 else 0
    assert np.abs(np.subtract(pixels, expected, dtype=np.int16)).max() <= rounding
    unscaled = decoded(turned(upright, orientation, image_format), (90, 160), resizing=resize_mode)
    assert np.array_equal(unscaled, np.asarray(upright))


def test_orientation_of_a_large_jpeg_that_is_drafted():
    result = decoding.decode(turned(data.quadrants(1200, 800), 6, "JPEG"), (40, 60))
    assert (result.height, result.width) == (1200, 800)
    assert np.abs(np.subtract(corners(result.pixels), QUARTERS)).max() <= 8


def test_broken_exif_is_no_reason_to_lose_the_picture():
    encoded = data.encoded(data.quadrants(), exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20))
    assert decoded(encoded).shape == (60, 80, 3)


def test_grey_has_three_equal_channels():
    grey = data.photograph(1).convert("L")
    assert np.array_equal(decoded(data.encoded(grey, "PNG"), (96, 128)), np.asarray(grey.convert("RGB")))


def test_sixteen_bits_keep_their_scale():
    samples = np.linspace(0, 65535, 80 * 60).reshape(60, 80).astype(np.uint16)
    for image_format in ("PNG", "TIFF"):
        pixels = decoded(data.encoded(Image.fromarray(samples), image_format))
        assert np.abs(pixels[..., 0].astype(int) - (samples / 257).round()).max() == 0
        assert (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()


def test_thirty_two_bits_are_cut_to_sixteen():
    samples = np.array([[-70_000, -1, 0, 65_535, 65_536, 2**31 - 1]], np.int32)
    pixels = decoded(data.encoded(Image.fromarray(samples), "TIFF"), (1, 6))
    assert pixels[0, :, 0].tolist() == [0, 0, 0, 255, 255, 255]


def test_floating_point_is_refused_by_name():
    with pytest.raises(decoding.UnsupportedColour, match="floating point"):
        decoded(data.encoded(Image.new("F", (8, 8), 0.5), "TIFF"))


def test_a_white_bilevel_image_is_white():
    assert set(decoded(data.encoded(Image.new("1", (80, 60), 1), "PNG")).ravel()) == {255}


def test_cmyk_keeps_its_colours():
    cmyk = data.encoded(data.quadrants().convert("CMYK"), quality=95, subsampling=0)
    assert np.abs(np.subtract(corners(decoded(cmyk)), QUARTERS)).max() <= 12


def test_lab_keeps_its_colours():
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


def test_a_palette_that_is_missing():
    palette = data.encoded(data.quadrants().convert("P"), "PNG")
    at, end = palette.index(b"PLTE") - 4, palette.index(b"IDAT") - 4
    with pytest.raises(decoding.CorruptImage, match="indices into a palette, and there is none"):
        decoded(palette[:at] + palette[end:])


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


@pytest.mark.parametrize("profile", [data.linear_rgb_profile(), data.linear_grey_profile()], ids=["RGB", "grey"])
def test_profile_of_a_grey_image(profile):
    grey = Image.new("L", (80, 60), 55)
    # IEC 61966-2-1: 1.055 (55 / 255) ** (1 / 2.4) - 0.055 is 128 of 255.
    assert np.abs(decoded(data.encoded(grey, "TIFF", icc_profile=profile)).astype(int) - 128).max() <= 1


def test_profile_of_cmyk():
    profile = data.black_ink_profile()
    for inks, expected in (((255, 255, 255, 0), 255), ((0, 0, 0, 255), 0), ((90, 0, 0, 255), 0)):
        cmyk = data.encoded(Image.new("CMYK", (80, 60), inks), "TIFF", icc_profile=profile)
        assert np.abs(decoded(cmyk).astype(int) - expected).max() <= 1


def test_large_profiles_are_applied_but_few_are_kept():
    good = data.swapped_profile()
    for size, applied in ((100_000, True), (4 << 20, True), ((4 << 20) + 4, False)):
        profile = size.to_bytes(4) + good[4:] + bytes(size - len(good))
        red = corners(decoded(data.encoded(data.quadrants(), "TIFF", icc_profile=profile)))[0]
        assert np.abs(np.subtract(red, (0, 255, 0) if applied else (255, 0, 0))).max() <= 3
    for cache, bytes_ in ((colour._small_profile, 64 << 10), (colour._large_profile, 4 << 20)):
        assert cache.cache_parameters()["maxsize"] * bytes_ <= 16 << 20


def test_profile_for_other_channels_is_ignored():
    cmyk = data.encoded(data.quadrants().convert("CMYK"), icc_profile=data.swapped_profile(), quality=95, subsampling=0)
    assert np.abs(np.subtract(corners(decoded(cmyk)), QUARTERS)).max() <= 12


def test_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photograph = data.photograph(5)
    pixels = decoded(data.encoded(photograph, "PNG", icc_profile=profile), (96, 128))
    assert np.array_equal(pixels, np.asarray(photograph))


def test_stretch_shows_everything():
    assert corners(decoded(data.encoded(data.quadrants(), "PNG"), (40, 40), resizing="stretch")) == QUARTERS


@pytest.mark.parametrize("stored", [(90, 30), (30, 90)], ids=["wide", "high"])
def test_crop_takes_the_centre(stored):
    striped = Image.new("RGB", stored, "white")
    striped.paste("red", (30, 0, 60, 30) if stored[0] > stored[1] else (0, 30, 30, 60))
    pixels = decoded(data.encoded(striped, "PNG"), (20, 20), resizing="crop")
    # Antialiasing looks a pixel beyond the cut; inside there is nothing but the centre.
    assert np.array_equal(np.unique(pixels[1:-1, 1:-1].reshape(-1, 3), axis=0), [[255, 0, 0]])


@pytest.mark.parametrize("stored", [(90, 30), (30, 90)], ids=["wide", "high"])
def test_pad_is_black_and_centred(stored):
    pixels = decoded(data.encoded(Image.new("RGB", stored, "white"), "PNG"), (30, 30), resizing="pad")
    white = pixels.all(axis=2)
    inside = np.zeros((30, 30), bool)
    if stored[0] > stored[1]:
        inside[10:20] = True
    else:
        inside[:, 10:20] = True
    assert np.array_equal(white, inside)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("stored", [(2000, 1), (1, 2000)], ids=["wide", "high"])
def test_a_line_stays_a_line(stored, image_format):
    line = data.encoded(Image.new("RGB", stored, "white"), image_format)
    white = decoded(line, (30, 30), resizing="pad").min(axis=2) > 250
    assert white.sum() == 30 and white.any(axis=0 if stored[0] > stored[1] else 1).all()
    for resize_mode in ("crop", "stretch"):
        assert decoded(line, (30, 30), resizing=resize_mode).min() > 250


def test_resize_is_antialiased():
    checkers = np.indices((400, 400)).sum(axis=0) % 2 * 255
    pixels = decoded(data.encoded(Image.fromarray(checkers.astype(np.uint8)), "PNG"), (40, 40))
    assert np.abs(pixels.astype(int) - 127).max() <= 2  # without antialiasing: black and white


def test_draft_agrees_with_a_full_decode():
    large = data.photograph(9, 900, 1200)
    drafted = decoded(data.encoded(large, quality=95), (112, 112)).astype(int)
    full = np.asarray(large.resize((112, 112), Image.Resampling.BILINEAR)).astype(int)
    # Levels of 255. Measured: 0.24 and at most 2; at an eighth, which aliases, 0.65 and at most 5.
    assert np.abs(drafted - full).mean() < 0.4
    assert np.abs(drafted - full).max() <= 3


@pytest.mark.parametrize(
    ("stored", "size", "resize_mode", "reduced"),
    [
        # (height, width) as stored and as asked for; the least of 1, 1/2, 1/4 and 1/8 with twice the pixels asked for.
        ((900, 1200), (112, 112), "stretch", (225, 300)),
        ((900, 1200), (113, 113), "stretch", (450, 600)),
        ((900, 1200), (112, 150), "crop", (225, 300)),
        ((900, 1200), (50, 75), "pad", (113, 150)),
        ((1200, 300), (60, 60), "stretch", (600, 150)),
        ((1200, 300), (75, 75), "crop", (600, 150)),
        ((1200, 300), (75, 75), "pad", (300, 75)),
        ((300, 1200), (75, 75), "pad", (75, 300)),
        ((300, 400), (300, 400), "stretch", (300, 400)),
    ],
)
@pytest.mark.parametrize("by", ["simplejpeg", "Pillow"])
def test_a_large_jpeg_is_decoded_at_reduced_size(monkeypatch, by, stored, size, resize_mode, reduced):
    sizes = []
    if by == "Pillow":
        monkeypatch.setattr(fast_jpeg, "simplejpeg", None)
        plain = samples.plain
        monkeypatch.setattr(samples, "plain", lambda image: sizes.append(image.size[::-1]) or plain(image))
    else:
        simplejpeg = pytest.importorskip("simplejpeg", reason="no wheel of simplejpeg here")
        decode_jpeg = simplejpeg.decode_jpeg

        def decode(*args, **options):
            pixels = decode_jpeg(*args, **options)
            sizes.append(pixels.shape[:2])
            return pixels

        monkeypatch.setattr(simplejpeg, "decode_jpeg", decode)
    decoded(data.jpeg(1, *stored), size, resizing=resize_mode)
    assert sizes == [reduced]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resizing": "fill"}, "resize_mode='fill': expected one of stretch, crop, pad"),
        ({"size": (0, 8)}, r"size=\(0, 8\): expected \(height, width\) in pixels"),
        ({"size": (8,)}, r"size=\(8,\): expected \(height, width\) in pixels"),
    ],
)
def test_a_wrong_argument_is_not_the_images_fault(arguments, message):
    for encoded in (data.jpeg(), b""):
        with pytest.raises(ValueError, match=message) as raised:
            decoded(encoded, **arguments)
        assert not isinstance(raised.value, decoding.ImageError)


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


@pytest.fixture
def nothing_decoded(monkeypatch):
    """Fails the test where pixels are decoded."""

    def decode(*args, **options):
        pytest.fail("pixels were decoded")

    for name in ("load", "draft"):
        monkeypatch.setattr(ImageFile.ImageFile, name, decode)
    monkeypatch.setattr(fast_jpeg, "decode", decode)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_one_pixel_too_many_is_refused_before_decoding(nothing_decoded, image_format, orientation):
    if image_format in ("GIF", "BMP") and orientation != 1:
        pytest.skip("no EXIF in this format")
    if orientation == 1:
        encoded = data.encoded(data.photograph(0), image_format)
    else:
        encoded = turned(data.photograph(0).transpose(Image.Transpose.TRANSPOSE), orientation, image_format)
    with pytest.raises(decoding.TooManyPixels, match=f"at most {128 * 96 - 1} pixels .* 128x96"):
        decoded(encoded, max_pixels=128 * 96 - 1)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_as_many_pixels_as_allowed_are_decoded(image_format):
    assert decoded(data.encoded(data.photograph(0), image_format), max_pixels=128 * 96).shape == (60, 80, 3)


def test_by_default_no_more_pixels_are_allowed_than_pillow_opens_without_a_warning():
    assert MAX_PIXELS_DEFAULT == Image.MAX_IMAGE_PIXELS == MAX_PIXELS_LIMIT // 2


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


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
@pytest.mark.parametrize("max_pixels", [10**6, 10], ids=["decoded", "refused"])
def test_decoding_leaves_no_file_open(monkeypatch, image_format, max_pixels):
    opened = []

    def keep(function):
        def open_image(*args, **options):
            opened.append(function(*args, **options))
            return opened[-1]

        return open_image

    monkeypatch.setattr(Image, "open", keep(Image.open))
    for module, name in ((reader.bounds, "open_gif"), (reader.tiff_kinds, "open_tiff")):
        monkeypatch.setattr(module, name, keep(getattr(module, name)))
    with contextlib.suppress(decoding.TooManyPixels):
        # Grey, because a JPEG in colour is decoded without Pillow.
        decoded(data.encoded(data.photograph(0).convert("L"), image_format), max_pixels=max_pixels)
    # A PNG is refused before it is opened.
    assert len(opened) == (0 if image_format == "PNG" and max_pixels == 10 else 1)
    assert all(image.fp is None for image in opened)  # let go of, whoever still holds the image


def outcome(*args: object) -> tuple[object, ...]:
    """Returns all that decoding says of an image, or the class and message of its error."""
    try:
        result = decoding.decode(*args)
    except decoding.ImageError as error:
        return type(error), re.sub("0x[0-9a-f]+", "", str(error))  # the address of Pillow's file
    return result.pixels.tobytes(), *result[1:]


def outcome_by_pillows_parser(monkeypatch: pytest.MonkeyPatch, *args: object) -> tuple[object, ...]:
    with monkeypatch.context() as patch:
        patch.setattr(jpeg_header, "parse", lambda encoded: None)
        return outcome(*args)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
def test_no_jpeg_is_decoded_otherwise_for_its_header_being_plain(monkeypatch, resize_mode):
    for encoded in [*jpeg_files.plain().values(), *jpeg_files.strange().values()]:
        for args in (
            (encoded, (48, 64), resize_mode),
            (encoded, (7, 5), resize_mode),
            (encoded, (8, 8), resize_mode, 99),
        ):
            assert outcome(*args) == outcome_by_pillows_parser(monkeypatch, *args)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_mutated_jpeg_is_decoded_otherwise_for_its_header_being_plain(monkeypatch):
    rng, files = random.Random(0), [*jpeg_files.plain().values(), *jpeg_files.strange().values()]
    decoded_ = 0
    for _ in range(4000):
        encoded, size = jpeg_files.mutated(rng.choice(files), rng), rng.choice(((48, 64), (8, 8), (60, 20)))
        args = encoded, size, rng.choice(RESIZE_MODES), 1 << 20
        result = outcome(*args)
        decoded_ += len(result) > 2
        assert result == outcome_by_pillows_parser(monkeypatch, *args), encoded.hex()
    assert decoded_ > 500


def test_a_jpeg_that_pillow_warns_of_is_opened_by_pillow(monkeypatch):
    encoded = jpeg_files.plain()["base"]
    expected = outcome(encoded, SIZE)
    opened, right = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **options: opened.append(args) or right(*args, **options))
    monkeypatch.setattr(decoding, "MAX_PIXELS_DEFAULT", 48 * 64 - 1)
    assert outcome(encoded, SIZE, "stretch", 1 << 20) == expected and len(opened) == 1
    monkeypatch.setattr(decoding, "MAX_PIXELS_DEFAULT", 48 * 64)
    assert outcome(encoded, SIZE, "stretch", 1 << 20) == expected and len(opened) == 1


@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
@pytest.mark.parametrize("stored", [(480, 640), (1201, 1603), (50, 37), (997, 300), (1, 700)])
def test_a_jpeg_is_reduced_as_pillow_drafts_it(stored, resize_mode):
    encoded = data.encoded(data.photograph(0, *stored), "JPEG")
    for target in ((224, 224), (1, 1), (299, 40), (16, 448), (2000, 2000)):
        with Image.open(io.BytesIO(encoded)) as image:
            image.draft("RGB", Resizing(resize_mode).draft_size(image.size, target))
            assert Resizing(resize_mode).reduced(stored[::-1], target) == image.size


@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
@pytest.mark.parametrize("name", ["plain", "turned", "in another space", "grey", "PNG"])
def test_pixels_are_written_into_an_image_of_a_batch(name, resize_mode):
    picture = data.photograph(1, 60, 80)
    encoded = {
        "plain": data.encoded(picture),
        "turned": turned(picture, 6, "JPEG"),
        "in another space": data.encoded(picture, icc_profile=data.swapped_profile()),
        "grey": data.encoded(picture.convert("L")),
        "PNG": data.encoded(picture, "PNG"),
    }[name]
    for size in (SIZE, (20, 50)):
        expected = decoding.decode(encoded, size, resize_mode)
        batch = np.full((3, *size, 3), 7, np.uint8)
        result = decoding.decode_into(encoded, DecodeSettings(size, Resizing(resize_mode)), batch[1])
        assert result.pixels.base is batch and result[1:] == expected[1:]
        assert np.array_equal(batch[1], expected.pixels)
        assert (batch[[0, 2]] == 7).all()


def test_a_jpeg_of_the_right_size_is_decoded_without_a_copy(monkeypatch):
    monkeypatch.setattr(fast_jpeg, "resized", lambda *args: pytest.fail("nothing is to be resized"))
    pixels = np.zeros((*SIZE, 3), np.uint8)
    assert decoding.decode_into(data.jpeg(0, *SIZE), DecodeSettings(SIZE), pixels).pixels is pixels and pixels.any()


@pytest.mark.parametrize(
    "out",
    [np.zeros((*SIZE, 4), np.uint8), np.zeros((*SIZE, 3), np.int8), np.zeros((3, *SIZE), np.uint8).transpose(1, 2, 0)],
)
def test_an_array_that_pixels_do_not_fit_is_refused(out):
    with pytest.raises(ValueError, match=r"out=.*expected C-contiguous uint8 \(60, 80, 3\)"):
        decoding.decode_into(data.jpeg(), DecodeSettings(SIZE), out)
