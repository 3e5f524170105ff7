"""The best classes of an image by a classifier. No Beam, no TensorFlow."""

import numpy as np
import numpy.typing as npt


def ranked(
    outputs: npt.NDArray[np.float32], count: int, *, are_probabilities: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Returns the best classes of each image, best first.

    Args:
      outputs: of a classifier, float32 (n, classes).
      count: classes per image, at most `classes`.
      are_probabilities: whether the outputs are probabilities, not logits.

    Returns:
      Indices, int64 (n, count), and scores, float32 (n, count): probabilities, by softmax if the outputs are logits.
    """
    count = min(count, outputs.shape[1])
    best = np.argsort(-outputs, axis=1, kind="stable")[:, :count].astype(np.int64)
    scores = outputs if are_probabilities else _softmax(outputs)
    return best, np.take_along_axis(scores, best, axis=1)


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)
