"""A DoFn that has many elements in flight at once, each of which waits for a server."""

import abc
import time
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.utils.windowed_value import WindowedValue

from transforms.concurrent.in_flight import InFlight
from transforms.elements.records import StageSeconds
from transforms.elements.stage import SECONDS


class DoInFlight(beam.DoFn, abc.ABC):
    """Runs `call` for each element in another thread, and outputs the results in the order of the elements.

    Results of elements that have a group come as they are done, see InFlight.

    It also outputs StageSeconds under SECONDS: how long the bundle's thread waited while other threads did the work,
    and for how long these kept a core busy.
    """

    def __init__(self, stage: str, concurrency: int):
        self._stage = stage
        self._concurrency = concurrency

    @abc.abstractmethod
    def call(self, element: Any) -> Any:
        """Returns the result of an element. Runs in any thread. An error that it raises fails the bundle."""

    @abc.abstractmethod
    def size(self, element: Any) -> int:
        """Returns the size of an element's result in bytes."""

    @abc.abstractmethod
    def outputs(self, result: Any) -> Iterable[Any]:
        """Yields the outputs for a result, tagged unless they are the main output. Runs in the bundle's thread."""

    def group(self, element: Any) -> str:
        """Returns the group of an element's call; "" for none."""
        return ""

    def items(self, result: Any) -> int:
        """Returns the number of items in a result, for the StageSeconds."""
        return 1

    def setup(self) -> None:
        self._in_flight: InFlight[tuple[Any, Any, float]] = InFlight(self._concurrency)

    def start_bundle(self) -> None:
        self._in_flight.forget()  # the calls of an earlier bundle that failed

    def teardown(self) -> None:
        self._in_flight.forget()

    def process(
        self, element: Any, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Any]:
        size, group = self.size(element), self.group(element)
        while not self._in_flight.has_room(size, group):
            yield from self._next()
        self._in_flight.start(lambda: ((timestamp, window), *self._timed(element)), size, group)
        while self._in_flight.next_is_done():
            yield from self._next()

    def _timed(self, element: Any) -> tuple[Any, float]:
        start = time.thread_time()
        return self.call(element), time.thread_time() - start

    def finish_bundle(self) -> Iterator[Any]:
        while self._in_flight:
            yield from self._next()

    def _next(self) -> Iterator[Any]:
        start = time.perf_counter()
        (timestamp, window), result, core_seconds = self._in_flight.take()
        # Measured before the first yield, because the next stage runs inside it.
        seconds = time.perf_counter() - start
        waited = StageSeconds.of(self._stage, seconds, items=self.items(result), core_seconds=core_seconds)
        for output in (beam.pvalue.TaggedOutput(SECONDS, waited), *self.outputs(result)):
            is_tagged = isinstance(output, beam.pvalue.TaggedOutput)
            value = WindowedValue(output.value if is_tagged else output, timestamp, (window,))
            yield beam.pvalue.TaggedOutput(output.tag, value) if is_tagged else value
