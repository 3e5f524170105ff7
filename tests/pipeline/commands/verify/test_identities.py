"""pipeline.commands.verify.identities: which of many images are equal, in 16 bytes each."""

import itertools

import numpy as np

from pipeline.commands.verify import identities
from pipeline.commands.verify.identities import ContentVectors, Identities, identity


def of(*hashes):
    listed = Identities()
    for hashed in hashes:
        listed.add(hashed)
    return listed


def test_texts_are_told_apart_with_their_borders():
    texts = [(b"",), (b"a",), (b"", b""), (b"ab",), (b"a", b"b"), (b"b", b"a"), (b"a\0", b"b"), (b"a", b"\0b")]
    assert len({identity(*text) for text in texts}) == len(texts)
    assert {len(identity(*text)) for text in texts} == {identities.SIZE}


def test_hashes_that_end_in_zeros():
    zeros, other = b"a".ljust(16, b"\0"), b"b" * 16
    assert of(zeros, other, zeros).repeated() == {zeros}
    assert of(zeros, other).where(of(zeros, other).also_in(of(zeros))) == {zeros}


def test_repeated_gives_what_occurs_twice():
    a, b, c = (identity(text) for text in (b"a", b"b", b"c"))
    assert of().repeated() == of(a).repeated() == of(a, b).repeated() == set()
    assert of(c, a, b, a, c, a).repeated() == {a, c}


def test_also_in_says_for_each_whether_others_have_it():
    a, b, c = (identity(text) for text in (b"a", b"b", b"c"))
    assert of(a, b, c, a).also_in(of(c), of(a), of()).tolist() == [True, False, True, True]
    assert of().also_in(of(a)).tolist() == [] and of(a).also_in().tolist() == [False]


def test_contents_with_several_vectors():
    a, b, c, d = (identity(text) for text in (b"a", b"b", b"c", b"d"))
    pairs = [(a, c), (b, c), (a, c), (b, d), (b, c)]
    for order in itertools.permutations(pairs):
        vectors = ContentVectors()
        for content, vector in order:
            vectors.add(content, vector)
        assert vectors.conflicts() == [b]
    assert ContentVectors().conflicts() == []


def test_a_million_take_sixteen_bytes_each():
    many = Identities()
    for block in np.random.default_rng(0).bytes(16_000_000), b"":
        many._bytes += block
    assert len(many) == 1_000_000 and many.array().nbytes == 16_000_000 and many.repeated() == set()
