"""What float16 costs: how many of the nearest neighbours in float32 it keeps, over a sample of a run's own vectors."""

import dataclasses
from collections.abc import Sequence

import apache_beam as beam
import numpy as np
import numpy.typing as npt

from pipeline.report import neighbours
from transforms.elements import keys
from transforms.elements.records import Embedding

NEIGHBOURS = 10
SAMPLE = 1000


@dataclasses.dataclass(eq=False)
class SampleVectors(beam.PTransform):
    """Embedding → the vectors of SAMPLE images in one element, or no element if there is no image.

    The images are those whose keys have the largest hashes, so equal inputs have equal samples. A bundle passes on no
    more than SAMPLE vectors.
    """

    def expand(self, embeddings: beam.PCollection[Embedding]) -> beam.PCollection[list[bytes]]:
        largest = beam.CombineGlobally(beam.combiners.TopCombineFn(SAMPLE)).without_defaults()
        return (
            embeddings
            | "Hash" >> beam.Map(_by_hash).with_output_types(tuple[bytes, bytes])
            | "Largest" >> largest
            | "Vectors" >> beam.Map(_vectors).with_output_types(list[bytes])
        )


def _by_hash(embedding: Embedding) -> tuple[bytes, bytes]:
    return keys.hashed(embedding.info.ref.key), embedding.vector.tobytes()


def _vectors(largest: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    return [vector for _, vector in largest]


def facts(sample: Sequence[bytes]) -> dict[str, float]:
    """Returns the report's field `recall` for a sample of vectors, each the bytes of its float32 components.

    Empty if there are too few vectors for one to have NEIGHBOURS others.
    """
    if len(sample) <= NEIGHBOURS:
        return {}
    vectors = np.stack([np.frombuffer(vector, np.float32) for vector in sample])
    return {f"at_{NEIGHBOURS}": round(recall(vectors), 4), "vectors": len(sample)}


def recall(vectors: npt.NDArray[np.float32]) -> float:
    """Returns the share of the NEIGHBOURS nearest vectors of each vector that float16 keeps among the nearest.

    Both searches are exact, by cosine in float64. Vectors at equal cosines keep their order.

    Args:
      vectors: float32 (n, dimension), n above NEIGHBOURS.
    """
    exact, narrowed = (
        neighbours.nearest(neighbours.exact_cosines(each), NEIGHBOURS) for each in (vectors, vectors.astype(np.float16))
    )
    common = sum(len(np.intersect1d(*rows)) for rows in zip(exact, narrowed, strict=True))
    return common / exact.size
