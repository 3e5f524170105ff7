"""A model that is loaded once it is needed: a run in which nothing is new needs none. No TensorFlow."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from transforms.models.engines.fixed_batches import Pixels

if TYPE_CHECKING:
    from transforms.models.engines.loading import EmbeddingModel, Timed


class LazyModel:
    """Stands for a model, and loads it when it is first called; safe to use from several threads."""

    def __init__(self, load: Callable[[], "EmbeddingModel"]):
        """Takes what loads the model; it is called once, or again where it failed."""
        self._load = load
        self._loading = threading.Lock()
        self._model: EmbeddingModel | None = None

    def timed(self, pixels: Pixels) -> "Timed":
        """Returns what the model's `timed` does, with the seconds that loading took, or waiting for who does it."""
        if self._model is not None:
            return self._model.timed(pixels)
        start = time.perf_counter()
        model = self._loaded()
        loading = time.perf_counter() - start
        return model.timed(pixels)._replace(loading=loading)

    def _loaded(self) -> "EmbeddingModel":
        if self._model is None:
            with self._loading:
                if self._model is None:
                    self._model = self._load()
        return self._model
