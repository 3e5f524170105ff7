"""Identities of millions of images in little memory: each is a hash of 16 bytes."""

import hashlib
import struct

import numpy as np
import numpy.typing as npt

SIZE = 16


def identity(*parts: bytes) -> bytes:
    """Returns the hash of a tuple of texts. Among 10¹² hashes, two are equal by chance with a probability of 10⁻¹⁵."""
    hashed = hashlib.blake2b(digest_size=SIZE)
    for part in parts:
        hashed.update(struct.pack("<Q", len(part)))
        hashed.update(part)
    return hashed.digest()


class Identities:
    """A list of identities.

    >>> images = Identities()
    >>> for key in (b"a.jpg", b"b.jpg", b"a.jpg"):
    ...     images.add(identity(key))
    >>> images.repeated() == {identity(b"a.jpg")}
    True
    """

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __len__(self) -> int:
        return len(self._bytes) // SIZE

    def add(self, hashed: bytes) -> None:
        self._bytes += hashed

    def array(self) -> npt.NDArray[np.bytes_]:
        """Returns them as an array of their own, in order."""
        return np.frombuffer(bytes(self._bytes), f"S{SIZE}")

    def distinct(self) -> npt.NDArray[np.bytes_]:
        """Returns each of them once, sorted."""
        return np.unique(self.array())

    def repeated(self) -> set[bytes]:
        """Returns those that occur more than once."""
        ordered = np.sort(self.array())
        return _set(np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))

    def also_in(self, *others: "Identities") -> npt.NDArray[np.bool_]:
        """Returns for each whether one of the others has it."""
        own = self.array()
        shared = np.zeros(len(own), bool)
        for other in others:
            shared |= np.isin(own, other.array())
        return shared

    def where(self, chosen: npt.NDArray[np.bool_]) -> set[bytes]:
        """Returns those that are chosen by a mask."""
        return _set(np.unique(self.array()[chosen]))


class ContentVectors:
    """For each record the identity of its image's content under its model, and that of its vector."""

    def __init__(self) -> None:
        self._contents, self._vectors = Identities(), Identities()

    def add(self, content: bytes, vector: bytes) -> None:
        self._contents.add(content)
        self._vectors.add(vector)

    def conflicts(self) -> list[bytes]:
        """Returns the contents that have different vectors, sorted."""
        contents, vectors = self._contents.array(), self._vectors.array()
        order = np.argsort(contents, kind="stable")
        contents, vectors = contents[order], vectors[order]
        differ = (contents[1:] == contents[:-1]) & (vectors[1:] != vectors[:-1])
        return sorted(_set(np.unique(contents[1:][differ])))


def _set(hashes: npt.NDArray[np.bytes_]) -> set[bytes]:
    return {hashed.ljust(SIZE, b"\0") for hashed in hashes.tolist()}  # NumPy strips zeros at the end
