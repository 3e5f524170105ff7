"""What files of embeddings hold when they are read again, whatever their format."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from transforms.elements.records import Embedding, ImageInfo, ImageRef


class Identity(NamedTuple):
    """The fields of a record that identify the image's bytes and the model of the vector.

    `shard` is the key of the shard that held the image. It is b"" if the image was a file of its own, and None in
    records of earlier versions, which do not state it.
    """

    key: bytes
    version: str
    sha256: str
    size: int
    crc32c: str
    model_digest: str
    shard: bytes | None = None

    @property
    def is_file(self) -> bool:
        """Whether the record says that the image was listed as a file of its own."""
        return self.shard == b""

    def ref(self) -> ImageRef:
        """Returns the image."""
        return ImageRef(self.key, self.version, self.size, self.crc32c, in_shard=self.shard or b"")

    def with_vector(self, facts: Sequence, vector: npt.NDArray[np.float32]) -> "StoredEmbedding":
        """Returns the whole embedding; `facts` are the format, the height and the width of the image."""
        return StoredEmbedding(Embedding(ImageInfo(self.ref(), self.sha256, *facts), vector), self.model_digest)


class StoredEmbedding(NamedTuple):
    """An embedding as it is stored, and the digest of its model."""

    embedding: Embedding
    model_digest: str


class StoredVectors(NamedTuple):
    """Vectors that lie one after the other.

    Attributes:
      keys: of their images.
      matrix: float32 (len(keys), dimension).
      models: (name, digest) of the model of each.
      shards: of each, as in an Identity.
    """

    keys: list[bytes]
    matrix: npt.NDArray[np.float32]
    models: list[tuple[str, str]]
    shards: list[bytes | None]

    @property
    def are_files(self) -> list[bool]:
        """For each, whether its record says that the image was listed as a file of its own."""
        return [shard == b"" for shard in self.shards]

    def digest(self) -> str:
        """Returns the digest of their one model. Raises ValueError if there are several."""
        digests = dict.fromkeys(digest for _, digest in self.models)
        if len(digests) > 1:
            raise ValueError(f"vectors of the models {', '.join(digests)}: expected those of one")
        return next(iter(digests))
