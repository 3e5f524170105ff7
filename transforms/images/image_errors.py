"""What can be wrong with one image. The name of an error's class is the `error` of its failure record."""


class ImageError(ValueError):
    """An error in one image."""


class EmptyImage(ImageError):
    """No bytes at all."""


class UnknownFormat(ImageError):
    """Not an image, or in a format that is not opened."""


class UnsupportedImage(ImageError):
    """In a format that is opened, but of a kind that is not read. The message says which."""


class UnsupportedColour(ImageError):
    """Samples without a defined conversion to 8-bit RGB."""


class TooManyPixels(ImageError):
    """The header announces more pixels than allowed. No pixel was decoded."""


class CorruptImage(ImageError):
    """The format is known, but the file is truncated or broken."""


class OutOfMemory(ImageError):
    """The image does not fit into this machine's memory, not even while no other large image is decoded."""

    retryable = True  # a machine with more memory may decode it
