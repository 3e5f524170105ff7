"""What the page of a run is made from: plain values, with no Beam and no files behind them."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from transforms.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from pipeline.report.page.drift import Statistics

MAX_SAMPLE = 500


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Images of a run, and their vectors.

    Attributes:
      keys: of n images, at most MAX_SAMPLE.
      vectors: float32 (n, dimension).
      thumbnails: of each image a JPEG of at most 96 pixels on the longer side, or b"" if there is none.
      brightness: mean of the pixels of all images that have a thumbnail, from 0 to 255; None if none has.
    """

    keys: tuple[bytes, ...]
    vectors: npt.NDArray[np.float32]
    thumbnails: tuple[bytes, ...]
    brightness: float | None = None

    def __post_init__(self) -> None:
        rows = {len(self.keys), len(self.vectors), len(self.thumbnails)}
        if self.vectors.ndim != 2 or len(rows) != 1 or len(self.keys) > MAX_SAMPLE:
            raise ValueError(
                f"sample of {len(self.keys)} keys, vectors of shape {self.vectors.shape} and {len(self.thumbnails)} "
                f"thumbnails: expected as many of each, at most {MAX_SAMPLE}, and vectors of shape (n, dimension)"
            )

    def __len__(self) -> int:
        return len(self.keys)


@dataclasses.dataclass(frozen=True)
class FailedImage:
    """An image without a vector, as in a Failure; `thumbnail` is a JPEG, or b"" if the image does not decode."""

    key: bytes
    stage: str
    error: str
    message: str
    retryable: bool
    thumbnail: bytes = b""


@dataclasses.dataclass(frozen=True, eq=False)
class RunFacts:
    """All that the page shows.

    Attributes:
      report: the content of the run's report, `runs/<run_id>.json`.
      sample: images that have a vector.
      failures: some of the images that failed, in any order.
      command: the command line of the run.
      retry: the command line that tries failed images again; "" if no other try may help.
      failure_files: where the records of all failures are; "" if nowhere.
      previous: the content of the report of the run before; None if there is none.
      compared_run, compared_statistics: the latest run before with the same model and enough images in its page, and
        the statistics of them; "" and None if there is none.
    """

    report: Mapping[str, Any]
    sample: Sample
    failures: Sequence[FailedImage] = ()
    command: str = ""
    retry: str = ""
    failure_files: str = ""
    previous: Mapping[str, Any] | None = None
    compared_run: str = ""
    compared_statistics: "Statistics | None" = None


def shown(value: Any) -> str:
    """Returns a value of a report's model for people. Not yet escaped.

    >>> shown((224, 224)), shown("")
    ('224×224', 'none')
    """
    if isinstance(value, Mapping):
        with contextlib.suppress(ValueError, TypeError, KeyError):  # of another version
            return Preprocessing.from_facts(value).text()
    if isinstance(value, list | tuple):
        return "×".join(map(str, value)) or "none"
    return "none" if value in ("", None) else str(value)
