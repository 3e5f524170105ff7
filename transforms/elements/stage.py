"""The base class of all stages, and the types of their outputs."""

from typing import Any, Generic, NamedTuple, TypeVar

import apache_beam as beam
from apache_beam.typehints.decorators import IOTypeHints, get_type_hints

from transforms.elements import record_coders  # noqa: F401 - registers the coders of what the stages output
from transforms.elements.records import Failure, LeftOut, Shard, StageSeconds

ElementT = TypeVar("ElementT")

# The tags of the outputs of a stage's DoFn.
MAIN = "main"
FAILURES = "failures"
SECONDS = "seconds"
LEFT_OUT = "left_out"


class Stage(beam.PTransform):
    """A PTransform with several inputs or outputs, whose types are the annotations of `expand`.

    Beam takes its type hints from these annotations, and warns of each one that is not a single PCollection. Therefore
    only annotations of a single PCollection become hints.
    """

    def default_type_hints(self) -> IOTypeHints:
        hints = IOTypeHints.from_callable(self.expand)
        if hints:
            hints = hints._replace(
                input_types=_of_collection(hints.input_types), output_types=_of_collection(hints.output_types)
            ).strip_pcoll()
        return get_type_hints(type(self)).with_defaults(hints)


class StageOutput(NamedTuple, Generic[ElementT]):
    """The outputs of a stage.

    Attributes:
      main: the elements that go on to the next stage.
      failures: a Failure for each image that this stage could not process.
      seconds: how long the workers' threads were busy in this stage.
      left_out: counts of the files that the stage passed over for their names; None if it looks at no names.
    """

    main: beam.PCollection[ElementT]
    failures: beam.PCollection[Failure]
    seconds: beam.PCollection[StageSeconds]
    left_out: beam.PCollection[LeftOut] | None = None

    @classmethod
    def of(cls, outputs: beam.pvalue.DoOutputsTuple, *, counts_left_out: bool = False) -> "StageOutput[Any]":
        """Returns the outputs of a DoFn that was applied by `with_stage_outputs`."""
        left_out = outputs[LEFT_OUT] if counts_left_out else None
        return cls(outputs[MAIN], outputs[FAILURES], outputs[SECONDS], left_out)


class WriteOutput(NamedTuple):
    """The outputs of a stage that writes files. It has no failures, because a write that fails stops the job.

    Attributes:
      shards: the complete files, under their final names.
      seconds: as of a StageOutput.
    """

    shards: beam.PCollection[Shard]
    seconds: beam.PCollection[StageSeconds]


def with_stage_outputs(do_fn: beam.DoFn, main: Any, *, counts_left_out: bool = False) -> beam.PTransform:
    """Returns the ParDo of a DoFn that tags failures as FAILURES and times as SECONDS; see `StageOutput.of`.

    Args:
      do_fn: the DoFn.
      main: the type of its main output. Elements without a type are pickled wherever they cross to another stage.
      counts_left_out: whether it also tags counts of files that it passed over, as LEFT_OUT.
    """
    tagged: dict[str, Any] = {FAILURES: Failure, SECONDS: StageSeconds}
    if counts_left_out:
        tagged[LEFT_OUT] = LeftOut
    return beam.ParDo(do_fn).with_output_types(main, **tagged).with_outputs(*tagged, main=MAIN)


def _of_collection(hint: Any) -> Any:
    """Returns `hint`, a hint of IOTypeHints, if it is a single PCollection, else None."""
    types: Any = hint[0] if hint else ()
    is_collection = len(types) == 1 and getattr(types[0], "__origin__", None) is beam.PCollection
    return hint if is_collection else None
