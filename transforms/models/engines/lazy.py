"""A model that is loaded at its first call. A run without new images never loads it. No TensorFlow."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from transforms.models.engines.fixed_batches import Pixels

if TYPE_CHECKING:
    from transforms.models.engines.loading import EmbeddingModel, ModelCall


class LazyModel:
    """A model that is loaded at its first call. Thread-safe."""

    def __init__(self, load: Callable[[], "EmbeddingModel"]):
        """Takes the function that loads the model. It is called once, and again only after it failed."""
        self._load = load
        self._loading = threading.Lock()
        self._model: EmbeddingModel | None = None

    def timed(self, pixels: Pixels) -> "ModelCall":
        """Returns the call of the model. Its `loading` includes the wait for another thread that loads the model."""
        if self._model is not None:
            return self._model.timed(pixels)
        start = time.perf_counter()
        model = self._load_once()
        loading = time.perf_counter() - start
        return model.timed(pixels)._replace(loading=loading)

    def _load_once(self) -> "EmbeddingModel":
        if self._model is None:
            with self._loading:
                if self._model is None:
                    self._model = self._load()
        return self._model
