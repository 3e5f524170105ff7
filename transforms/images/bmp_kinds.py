"""Opens BMPs of kinds that Pillow does not know: masks for the channels, a profile, palettes too long or of greys."""

import io
import struct

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImagePalette
from PIL.BmpImagePlugin import BmpImageFile

from transforms.images.image_errors import CorruptImage, UnsupportedImage

SIGNATURE = b"BM"
LEAST_BYTES = 26  # of a file, with the oldest header

# Where a file has the size of its second header, bits a pixel and compression, and the masks of its channels.
_HEADER, _KIND, _MASKS = 14, 28, 54
_MASKED, _MASKED_WITH_ALPHA = 3, 6
_LEAST_FOR_ALPHA = 56  # bytes of the second header

# The longest second header says what its colours are, and where a profile is, from its own start (BITMAPV5HEADER).
_WITH_PROFILE = 124
_COLOURS, _PROFILE = 70, 126
_EMBEDDED = b"DEBM"

_MAX_COLOURS = 256

_OLDEST = 12  # bytes of the oldest second header

# The mode that Pillow gives a picture with a palette of greys → the bits of a pixel in that mode, and the greys.
_GREYS = {"1": (1, (0, 255)), "L": (8, range(_MAX_COLOURS))}
_INDICES = {1: "P;1", 4: "P;4", 8: "P"}


def open_bmp(encoded: bytes) -> "Bmp":
    """Returns a BMP, of which only the header was read.

    Raises:
      CorruptImage: if the header is broken. UnsupportedImage: if no masks are defined that way.
      OSError: if it is of another kind that Pillow does not read, or cut.
    """
    try:
        return Bmp(io.BytesIO(encoded))
    except SyntaxError as error:
        raise CorruptImage(f"the BMP's header is broken: {error}") from error


class Bmp(BmpImageFile):
    """A BMP."""

    def _bitmap(self, header: int = 0, offset: int = 0) -> None:
        self._read_bitmap(header, offset)
        if self.palette is None and self.mode in _GREYS:
            self._restore_palette()
        if self.palette is not None:  # some programs write more colours than a pixel can have
            mode, colours = str(self.palette.rawmode), bytes(self.palette.palette)
            self.palette = ImagePalette.raw(mode, colours[: _MAX_COLOURS * len(mode)])
        self._read_profile()

    def _read_bitmap(self, header: int, offset: int) -> None:
        self._masks = self._read_masks()
        if self._masks is None:
            super()._bitmap(header, offset)
            return
        try:
            super()._bitmap(header, offset)
        except OSError as error:
            if "bitfields" not in str(error) and f"compression ({_MASKED_WITH_ALPHA})" not in str(error):
                raise
        # Pixels as they are: two bytes, or the four of RGBA.
        self._mode, raw_mode = ("RGBA", "RGBA") if self._bits == 32 else ("I;16", "I;16")
        stride = (self.width * self._bits + 31) // 32 * 4
        extents = (0, 0, *self.size)
        direction = 1 if self._is_top_down else -1
        self.tile = [ImageFile._Tile("raw", extents, offset, (raw_mode, stride, direction))]

    def plain(self) -> Image.Image:
        """Returns the loaded picture. It has no alpha channel if all of it would be transparent."""
        image: Image.Image = self
        if self._masks is not None:
            pixels = np.asarray(self)
            if self._bits == 32:
                pixels = pixels.view("<u4")[..., 0]
            *colours, alpha = (_channel(pixels, mask) for mask in self._masks)
            if not self._masks[3]:
                return Image.fromarray(np.stack(colours, -1))
            image = Image.fromarray(np.stack((*colours, alpha), -1))
        if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
            return image.convert("RGB")
        return image

    def _restore_palette(self) -> None:
        """Restores a palette of greys that Pillow has replaced by a mode whose pixels have other bits."""
        assert self.fp is not None  # noqa: S101 - it is being opened
        at = self.fp.tell()
        self.fp.seek(_HEADER)
        head = self.fp.read(16)
        self.fp.seek(at)
        (bits,) = struct.unpack_from("<H", head, 10 if head[0] == _OLDEST else _KIND - _HEADER)
        usual, greys = _GREYS[self.mode]
        compressed = self.tile[0].codec_name != "raw"
        if bits != usual or compressed:
            args = self.tile[0].args
            assert isinstance(args, tuple)  # noqa: S101 - of both decoders
            self.tile = [self.tile[0]._replace(args=(_INDICES[bits], *args[1:]))]
            self.palette = ImagePalette.raw("RGB", bytes(grey for grey in greys for _ in range(3)))
            self._mode = "P"

    def _read_profile(self) -> None:
        assert self.fp is not None  # noqa: S101 - it is being opened
        self.fp.seek(_HEADER)
        head = bytes(_HEADER) + self.fp.read(_WITH_PROFILE)
        if len(head) == _HEADER + _WITH_PROFILE and head[_COLOURS : _COLOURS + 4] == _EMBEDDED:
            header_bytes, start, size = (
                struct.unpack_from("<L", head, at)[0] for at in (_HEADER, _PROFILE, _PROFILE + 4)
            )
            if header_bytes == _WITH_PROFILE:
                self.fp.seek(_HEADER + start)
                self.info["icc_profile"] = self.fp.read(size)

    def _read_masks(self) -> tuple[int, int, int, int] | None:
        """Returns the masks of red, green, blue and alpha, None if there are none."""
        assert self.fp is not None  # noqa: S101 - it is being opened
        at = self.fp.tell()
        self.fp.seek(0)
        head = self.fp.read(_MASKS + 16)
        self.fp.seek(at)
        if len(head) < _MASKS + 12:
            return None
        (header_bytes,) = struct.unpack_from("<L", head, _HEADER)
        self._bits, compression = struct.unpack_from("<HL", head, _KIND)
        if header_bytes < 40 or self._bits not in (16, 32) or compression not in (_MASKED, _MASKED_WITH_ALPHA):
            return None
        self._is_top_down = struct.unpack_from("<l", head, _HEADER + 8)[0] < 0
        red, green, blue, alpha = struct.unpack_from("<4L", head.ljust(_MASKS + 16, b"\0"), _MASKS)
        if header_bytes < _LEAST_FOR_ALPHA and compression != _MASKED_WITH_ALPHA:
            alpha = 0
        if not any((red, green, blue)):  # Pillow takes them for the usual ones
            return None
        for mask in (red, green, blue, alpha):
            if mask >> self._bits or (mask and (mask // (mask & -mask)) & (mask // (mask & -mask) + 1)):
                raise UnsupportedImage(f"a BMP with the mask {mask:#x} for a channel of its {self._bits} bits")
        return red, green, blue, alpha


def _channel(pixels: npt.NDArray[np.unsignedinteger], mask: int) -> npt.NDArray[np.uint8]:
    """Returns the bits of a mask, in a row, as 0 to 255."""
    if not mask:
        return np.zeros(pixels.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    if most > 0xFFFF:
        shift, most = shift + most.bit_length() - 16, 0xFFFF
    bits = pixels.astype(np.uint32)
    bits &= np.uint32(mask)
    bits >>= np.uint32(shift)
    bits *= np.uint32(255)
    bits += np.uint32(most // 2)
    bits //= np.uint32(most)
    return bits.astype(np.uint8)
