"""transforms.models.tensors: signatures as people read them."""

from transforms.models.tensors import Signature, TensorInfo


def test_a_signature_in_words():
    images, vectors = TensorInfo("uint8", (None, 3, 8, 9)), TensorInfo("float32", None)
    signature = Signature({"images": images}, {"b": vectors, "a": TensorInfo("float32", (1,))})
    assert str(signature) == "(images: uint8[?, 3, 8, 9]) → a: float32[1], b: float32 of unknown rank"
