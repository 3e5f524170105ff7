"""A DoFn that has many elements in flight at once, each of which waits for a server."""

import abc
import functools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.utils.windowed_value import WindowedValue

from transforms.concurrent.in_flight import InFlight
from transforms.elements.records import StageSeconds
from transforms.elements.stage import SECONDS


class DoInFlight(beam.DoFn, abc.ABC):
    """Runs `call` for the parts of each element in other threads, and outputs the results in the order of the elements.

    Results of elements that have a group come as they are done, see InFlight.

    It also outputs StageSeconds under SECONDS: how long the bundle's thread waited while other threads did the work,
    and for how long these kept a core busy.
    """

    def __init__(self, stage: str, concurrency: int):
        self._stage = stage
        self._concurrency = concurrency

    def parts(self, element: Any) -> Sequence[Any]:
        """Returns the parts of an element, each for a call of its own."""
        return [element]

    @abc.abstractmethod
    def call(self, part: Any) -> Any:
        """Returns the result of a part. Runs in any thread. An error that it raises fails the bundle."""

    @abc.abstractmethod
    def size(self, element: Any) -> int:
        """Returns the size of an element's results in bytes."""

    @abc.abstractmethod
    def outputs(self, results: Sequence[Any]) -> Iterable[Any]:
        """Yields the outputs for an element, tagged unless they are the main output. Runs in the bundle's thread.

        Args:
          results: of its parts.
        """

    def group(self, element: Any) -> str:
        """Returns the group of an element, which then has a single part; "" for none."""
        return ""

    def items(self, results: Sequence[Any]) -> int:
        """Returns the number of items in the results of an element, for the StageSeconds."""
        return 1

    def setup(self) -> None:
        self._in_flight: InFlight[tuple[tuple[Any, Any], Any, float]] = InFlight(self._concurrency)

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
        timed = functools.partial(self._timed, (timestamp, window))
        self._in_flight.start([functools.partial(timed, part) for part in self.parts(element)], size, group)
        while self._in_flight.next_is_done():
            yield from self._next()

    def _timed(self, at: tuple[Any, Any], part: Any) -> tuple[tuple[Any, Any], Any, float]:
        start = time.thread_time()
        return at, self.call(part), time.thread_time() - start

    def finish_bundle(self) -> Iterator[Any]:
        while self._in_flight:
            yield from self._next()

    def _next(self) -> Iterator[Any]:
        start = time.perf_counter()
        places, results, seconds_of_parts = zip(*self._in_flight.take(), strict=True)
        timestamp, window = places[0]
        # Measured before the first yield, because the next stage runs inside it.
        seconds = time.perf_counter() - start
        waited = StageSeconds.of(self._stage, seconds, items=self.items(results), core_seconds=sum(seconds_of_parts))
        for output in (beam.pvalue.TaggedOutput(SECONDS, waited), *self.outputs(results)):
            is_tagged = isinstance(output, beam.pvalue.TaggedOutput)
            value = WindowedValue(output.value if is_tagged else output, timestamp, (window,))
            yield beam.pvalue.TaggedOutput(output.tag, value) if is_tagged else value
