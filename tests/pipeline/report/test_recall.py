"""pipeline.report.recall: the sample, and the recall of float16 against a search that is written anew here."""

import apache_beam as beam
import numpy as np
import pytest

from pipeline.report import recall
from pipeline.report.recall import SampleVectors
from tests.helpers.collecting import collect
from transforms.elements.records import Embedding, ImageInfo, ImageRef


def embeddings(count):
    vectors = np.random.default_rng(0).standard_normal((count, 4), np.float32)
    return [
        Embedding(ImageInfo(ImageRef(b"/%d.jpg" % i), "", "jpeg", 8, 8), vector) for i, vector in enumerate(vectors)
    ]


def samples(count, order=1):
    outputs, _ = collect(lambda root: {"sample": root | beam.Create(embeddings(count)[::order]) | SampleVectors()})
    return outputs["sample"]


def test_the_sample_is_bounded_and_depends_on_the_keys_alone(monkeypatch):
    monkeypatch.setattr(recall, "SAMPLE", 30)
    (sample,) = samples(100)
    assert len(set(sample)) == 30 and set(sample) <= {each.vector.tobytes() for each in embeddings(100)}
    assert samples(100, order=-1) == [sample]


def test_a_run_with_few_vectors_or_none():
    (sample,) = samples(5)
    assert sorted(sample) == sorted(each.vector.tobytes() for each in embeddings(5))
    assert samples(0) == []
    assert recall.facts(sample) == recall.facts([]) == {}


def naive(vectors):
    """Returns the sets of the ten nearest vectors of each vector."""
    units = [vector / np.linalg.norm(vector) for vector in vectors.astype(np.float64)]
    others = [[i for i in range(len(units)) if i != own] for own in range(len(units))]
    return [set(sorted(rest, key=lambda i: -units[own] @ units[i])[:10]) for own, rest in enumerate(others)]


@pytest.mark.parametrize("spread", [1.0, 0.03], ids=["far apart", "close together"])
def test_recall_is_that_of_an_exact_search(spread):
    vectors = (1 + spread * np.random.default_rng(1).standard_normal((60, 5))).astype(np.float32)
    exact, narrowed = naive(vectors), naive(vectors.astype(np.float16))
    expected = sum(len(a & b) for a, b in zip(exact, narrowed, strict=True)) / 600
    assert recall.recall(vectors) == expected
    assert recall.facts([vector.tobytes() for vector in vectors]) == {
        "at_10": round(recall.recall(vectors), 4),
        "vectors": 60,
    }


def test_what_float16_holds_is_kept():
    vectors = np.random.default_rng(2).integers(-50, 50, (40, 6)).astype(np.float32)
    assert recall.recall(vectors) == 1
    assert recall.recall(np.zeros((20, 6), np.float32)) == 1


def test_a_vector_has_ten_others():
    vectors = [vector.tobytes() for vector in np.random.default_rng(3).standard_normal((11, 4)).astype(np.float32)]
    assert recall.facts(vectors[:10]) == {} and recall.facts(vectors)["vectors"] == 11
