"""A DoFn whose elements each wait for a server: many are in flight at once."""

import abc
import time
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.utils.windowed_value import WindowedValue

from transforms.concurrent.in_flight import InFlight
from transforms.records import SECONDS, StageSeconds


class DoInFlight(beam.DoFn, abc.ABC):
    """Calls `call` of each element in another thread, and gives `outputs` of the results in the order of the elements.

    Gives StageSeconds under their tag too: how long this thread waited, while others did the work.
    """

    def __init__(self, stage: str, concurrency: int):
        self._stage = stage
        self._concurrency = concurrency

    @abc.abstractmethod
    def call(self, element: Any) -> Any:
        """Returns the result of an element; runs in any thread, and an error that it raises fails the bundle."""

    @abc.abstractmethod
    def size(self, element: Any) -> int:
        """Returns how many bytes the result of an element has."""

    @abc.abstractmethod
    def outputs(self, result: Any) -> Iterable[Any]:
        """Yields what goes on, tagged where it is not the main output; runs in the thread of the bundle."""

    def setup(self) -> None:
        self._in_flight: InFlight[tuple[Any, Any]] = InFlight(self._concurrency)

    def start_bundle(self) -> None:
        self._in_flight.forget()  # what a bundle that failed has left

    def teardown(self) -> None:
        self._in_flight.forget()

    def process(
        self, element: Any, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Any]:
        size = self.size(element)
        while not self._in_flight.has_room(size):
            yield from self._next()
        self._in_flight.start(lambda: ((timestamp, window), self.call(element)), size)
        while self._in_flight.next_is_done():
            yield from self._next()

    def finish_bundle(self) -> Iterator[Any]:
        while self._in_flight:
            yield from self._next()

    def _next(self) -> Iterator[Any]:
        start = time.perf_counter()
        (timestamp, window), result = self._in_flight.take()
        # Before anything is yielded: whatever takes the result runs inside that yield.
        waited = StageSeconds(self._stage, time.perf_counter() - start)
        for output in (beam.pvalue.TaggedOutput(SECONDS, waited), *self.outputs(result)):
            tagged = isinstance(output, beam.pvalue.TaggedOutput)
            value = WindowedValue(output.value if tagged else output, timestamp, (window,))
            yield beam.pvalue.TaggedOutput(output.tag, value) if tagged else value
