"""The speed of a run over time: how many images the model embedded in each span of time."""

import dataclasses
from collections import Counter
from typing import Any

_FIRST_SPAN_SECONDS = 0.25
MAX_SPANS = 120


@dataclasses.dataclass
class Speed:
    """Numbers of images by span of time. The spans double in length until MAX_SPANS of them cover the run.

    Attributes:
      span_seconds: length of a span.
      images: number of the span, counted from 1970 → images that the model embedded in it.
    """

    span_seconds: float = _FIRST_SPAN_SECONDS
    images: Counter[int] = dataclasses.field(default_factory=Counter)

    def add(self, started: float, ended: float, images: int) -> None:
        """Adds the images of a call of the model, spread evenly over its time, in seconds since 1970."""
        while ended - started >= MAX_SPANS * self.span_seconds:
            self._widen(2 * self.span_seconds)
        before = 0
        for span in range(int(started // self.span_seconds), int(ended // self.span_seconds) + 1):
            end = (span + 1) * self.span_seconds
            so_far = images if end >= ended else round(images * (end - started) / (ended - started))
            if so_far > before:
                self.images[span] += so_far - before
            before = so_far
        self._fit()

    def merge(self, other: "Speed") -> None:
        """Adds the images of another, which stays as it is."""
        coarsest = max(self.span_seconds, other.span_seconds)
        self._widen(coarsest)
        times = round(coarsest / other.span_seconds)
        for span, images in other.images.items():
            self.images[span // times] += images
        self._fit()

    def facts(self, started_at: float) -> dict[str, Any]:
        """Returns the field `speed` of the report; empty if no image was embedded.

        Args:
          started_at: the start of the command, in seconds since 1970.
        """
        if not self.images:
            return {}
        first, last = min(self.images), max(self.images)
        return {
            "from_s": round(first * self.span_seconds - started_at, 3),
            "span_s": self.span_seconds,
            "images": [self.images.get(span, 0) for span in range(first, last + 1)],
        }

    def _fit(self) -> None:
        while max(self.images, default=0) - min(self.images, default=0) >= MAX_SPANS:
            self._widen(2 * self.span_seconds)

    def _widen(self, span_seconds: float) -> None:
        times = round(span_seconds / self.span_seconds)
        wider: Counter[int] = Counter()
        for span, images in self.images.items():
            wider[span // times] += images
        self.span_seconds, self.images = span_seconds, wider
