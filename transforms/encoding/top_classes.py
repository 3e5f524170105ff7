"""The best classes of an image by a classifier. No Beam, no TensorFlow."""

import numpy as np
import numpy.typing as npt


def ranked(outputs: npt.NDArray[np.float32], count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Returns the best classes of each image, best first.

    Args:
      outputs: of a classifier, float32 (n, classes): logits, or probabilities.
      count: classes per image, at most `classes`.

    Returns:
      Indices, int64 (n, count), and scores, float32 (n, count): probabilities, by softmax if the outputs are logits.
    """
    count = min(count, outputs.shape[1])
    best = np.argsort(-outputs, axis=1, kind="stable")[:, :count].astype(np.int64)
    return best, np.take_along_axis(_probabilities(outputs), best, axis=1)


def _probabilities(outputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-3):
        return outputs
    exponents = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)
