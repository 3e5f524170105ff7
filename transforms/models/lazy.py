"""A model that is loaded once it is needed: a run in which nothing is new needs none. No TensorFlow."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from transforms.models.loading import EmbeddingModel


class LazyModel:
    """Stands for a model, and loads it when it is first asked to or called; safe to use from several threads."""

    def __init__(self, load: Callable[[], "EmbeddingModel"]):
        """Takes what loads the model; it is called once, or again where it failed."""
        self._load = load
        self._loading = threading.Lock()
        self._model: EmbeddingModel | None = None

    def load(self) -> float:
        """Loads the model unless that is done; returns the seconds that this took, or waiting for who does it."""
        if self._model is not None:
            return 0.0
        start = time.perf_counter()
        self._loaded()
        return time.perf_counter() - start

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Images, uint8 (n, height, width, 3) → vectors, float32 (n, dimension)."""
        return self._loaded()(pixels)

    def _loaded(self) -> "EmbeddingModel":
        if self._model is None:
            with self._loading:
                if self._model is None:
                    self._model = self._load()
        return self._model
