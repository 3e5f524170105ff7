"""What float16 costs: how many of the nearest neighbours in float32 it keeps, over a sample of a run's own vectors."""

import dataclasses
from collections.abc import Sequence

import apache_beam as beam
import numpy as np
import numpy.typing as npt

from transforms.elements import keys
from transforms.elements.records import Embedding

NEIGHBOURS = 10
SAMPLE = 1000
# Bounds the memory for cosines.
_ROWS_AT_ONCE = 100


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
    exact, narrowed = _units(vectors), _units(vectors.astype(np.float16))
    common = 0
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        rows = range(start, min(start + _ROWS_AT_ONCE, len(vectors)))
        both = zip(_nearest(exact, rows), _nearest(narrowed, rows), strict=True)
        common += sum(len(np.intersect1d(*neighbours)) for neighbours in both)
    return common / (len(vectors) * NEIGHBOURS)


def _units(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    units = vectors.astype(np.float64)
    norms = np.linalg.norm(units, axis=1, keepdims=True)
    units /= np.where(norms > 0, norms, 1)
    return units


def _nearest(units: npt.NDArray[np.float64], rows: range) -> npt.NDArray[np.intp]:
    """Returns the numbers of the nearest vectors of some vectors, without themselves, (len(rows), NEIGHBOURS)."""
    cosines = units[rows.start : rows.stop] @ units.T
    cosines[np.arange(len(rows)), rows] = -np.inf
    return np.argsort(-cosines, axis=1, kind="stable")[:, :NEIGHBOURS]
