"""Writing the page of a run, just before its report: a run with a report has its page."""

import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apache_beam as beam

from pipeline.flags.options import EmbedConfig
from pipeline.report import earlier_runs, sampling, statistics_file, stored_sample, try_again
from pipeline.report.page import document
from pipeline.report.page.facts import FailedImage, RunFacts
from pipeline.report.page.failed_images import MAX_EXAMPLES, MAX_PICTURES
from pipeline.report.page.sampled_images import Sample
from pipeline.report.run_report import RunReport
from transforms.decode import STAGE as DECODE
from transforms.elements.formats import SHARD_FORMATS
from transforms.elements.one_line import one_line
from transforms.elements.records import ImageRef
from transforms.images import decoding, thumbnail
from transforms.models.preprocessing import Preprocessing
from transforms.output import layout
from transforms.storage import contested, files, read_image

_LOG = logging.getLogger(__name__)

# Images that were not decoded in this run, such as those with reused vectors, are read again for their pictures. It
# takes no longer than this share of the run.
_SHARE_FOR_PICTURES = 0.01
_LEAST_SECONDS_FOR_PICTURES = 0.1
# A broken image at a URL is left out if the server takes longer.
_SECONDS_FOR_BROKEN_PICTURE = 1.0
# A page that is made later has none of the run's own pictures.
_SECONDS_FOR_ALL_PICTURES = 60.0


@dataclasses.dataclass(eq=False)
class WritePage(beam.PTransform):
    """RunReport → the same with the digests of the page and its statistics, once they are written.

    If the page cannot be made, the report says why. The run succeeds all the same.

    Attributes:
      config: of the run.
      collected: what CollectSample returns.
      check: see `files.write`.
    """

    config: EmbedConfig
    collected: beam.PCollection[tuple[str, list[tuple[Any, ...]]]]
    check: Callable[[], object] | None = None

    def expand(self, report: beam.PCollection[RunReport]) -> beam.PCollection[RunReport]:
        write = beam.Map(with_page, self.config, beam.pvalue.AsDict(self.collected), self.check)
        return report | "Write" >> write.with_output_types(RunReport)


def with_page(
    report: RunReport,
    config: EmbedConfig,
    collected: sampling.Collected | None,
    check: Callable[[], object] | None = None,
    present: bytes | None = None,
) -> RunReport:
    """Writes the statistics and the page of a run with an --output, each complete or not at all.

    The statistics come first: a run that has its page has both.

    Args:
      report: of the run.
      config: of the run.
      collected: what CollectSample returned; None to take it from the files of the run, which have their names.
      check: see `files.write`.
      present: a page that stays as it is; None to write one.

    Returns:
      The report with the digests of both, or with the reason why it cannot be made or written.

    Raises:
      contested.Lost: if `check` does.
    """
    output, page_error = str(config.output), ""
    written: dict[layout.PathOf, bytes] = {}
    try:
        seconds = None
        if collected is None:
            collected, seconds = stored_sample.collected(output, report), _SECONDS_FOR_ALL_PICTURES
        facts = run_facts(config, report, collected, seconds)
        page = document.html(facts).encode() if present is None else present
        statistics = facts.statistics.to_json().encode() if facts.statistics else b""
        statistics_file.write(output, report.run_id, statistics, check)
        written[layout.statistics] = statistics
        if present is None:
            files.write(layout.page(output, report.run_id), page, check)
        written[layout.page] = page
    except contested.Lost:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the run has its vectors
        _LOG.warning("the page of the run is not written: %s", error, exc_info=True)
        page_error = one_line(error)
    return _with_digests(report, written, page_error)


def with_page_of_last_attempt(
    config: EmbedConfig, report: RunReport, check: Callable[[], object] | None = None
) -> RunReport:
    """Returns the report with the digests of the page, for a run that was killed between its page and its report.

    A file that is missing is made from the files of the run, and from its images as they are now. A page that is there
    stays, because it may show images that are gone.

    Args:
      config, report: of the run.
      check: see `files.write`.

    Raises:
      contested.Lost: if `check` does.
      OSError: if a file cannot be read.
    """
    paths = {of: of(str(config.output), report.run_id) for of in layout.OF_PAGE}
    stored = {of: files.read(path) for of, path in paths.items() if files.match(path)}
    if any(of not in stored for of in layout.OF_PAGE if of is layout.page or of("", report.run_id) in report.files):
        return with_page(report, config, None, check, stored.get(layout.page))
    return _with_digests(report, stored)


def run_facts(
    config: EmbedConfig, report: RunReport, collected: sampling.Collected, seconds_for_pictures: float | None = None
) -> RunFacts:
    """Returns what the page of a run shows, with what is stored of the runs before.

    Args:
      config, report: of the run.
      collected: what CollectSample returned.
      seconds_for_pictures: the most that reading images again may take; by default a small share of the run.
    """
    output, failed = str(config.output), sampling.failures(collected)
    earlier = earlier_runs.before(output, report)
    compared = earlier_runs.statistics(output, earlier, report.model["digest"])
    sample = sampling.sample(collected, report.model["dimension"])
    return RunFacts(
        dataclasses.asdict(report),
        _with_pictures(sample, config, report, seconds_for_pictures or _seconds_for_pictures(report)),
        _with_broken_pictures(failed, config),
        command=try_again.same_again(config),
        retry=try_again.retry(config, failed),
        failure_files=layout.shards(layout.failures(output, report.run_id), layout.FAILURE_SUFFIX),
        previous=dataclasses.asdict(earlier[0]) if earlier else None,
        compared_run=compared[0] if compared else "",
        compared_statistics=compared[1] if compared else None,
    )


def _with_digests(report: RunReport, contents: Mapping[layout.PathOf, bytes], page_error: str = "") -> RunReport:
    """Returns the report with the digests of these files of its page, and of no others."""
    names = {of("", report.run_id): contents.get(of, b"") for of in layout.OF_PAGE}
    others = {name: digest for name, digest in report.files.items() if name not in names}
    own = {name: hashlib.sha256(content).hexdigest() for name, content in names.items() if content}
    return dataclasses.replace(report, files=others | own, page_error=page_error)


def _seconds_for_pictures(report: RunReport) -> float:
    return max(_LEAST_SECONDS_FOR_PICTURES, _SHARE_FOR_PICTURES * report.elapsed_seconds)


def _with_pictures(sample: Sample, config: EmbedConfig, report: RunReport, seconds: float) -> Sample:
    """Returns the sample with pictures of images that this run did not decode, as many as the time allows.

    They are decoded as the model's images are, to the same size.
    """
    missing = [row for row, picture in enumerate(sample.thumbnails) if not picture]
    if not missing or config.input_format in SHARD_FORMATS:
        return sample
    pictures = list(sample.thumbnails)
    height, width = report.model["image_size"]
    resizing = Preprocessing.from_facts(report.model["preprocessing"]).resizing
    storage = dataclasses.replace(config.storage, url_seconds=seconds)
    end = time.monotonic() + seconds
    for row in missing:
        if time.monotonic() > end:
            break
        try:
            encoded = read_image.read(storage, ImageRef(sample.keys[row])).encoded
            decoded = decoding.decode(encoded, (height, width), resizing, config.max_pixels)
            pictures[row] = thumbnail.of_pixels(decoded.pixels)
        except (OSError, ValueError, MemoryError) as error:
            _LOG.info("no picture of %r: %s", sample.keys[row], error)
    return dataclasses.replace(sample, thumbnails=tuple(pictures))


def _with_broken_pictures(failed: Sequence[FailedImage], config: EmbedConfig) -> list[FailedImage]:
    """Returns the failures that a page shows, with pictures of those that decode at least in part."""
    seen: dict[tuple[str, str], int] = {}
    examples: list[FailedImage] = []
    left = MAX_PICTURES
    for image in failed:
        group = image.stage, image.error
        seen[group] = seen.get(group, 0) + 1
        if seen[group] > MAX_EXAMPLES:
            continue
        # Images with other errors may have killed the process that decoded them.
        if left and group == (DECODE, decoding.CorruptImage.__name__) and config.input_format not in SHARD_FORMATS:
            left -= 1
            image = dataclasses.replace(image, thumbnail=_broken_picture(image.key, config))
        examples.append(image)
    return examples


def _broken_picture(key: bytes, config: EmbedConfig) -> bytes:
    try:
        storage = dataclasses.replace(config.storage, url_seconds=_SECONDS_FOR_BROKEN_PICTURE)
        return thumbnail.of_broken(read_image.read(storage, ImageRef(key)).encoded)
    except (OSError, ValueError, MemoryError) as error:
        _LOG.info("no picture of %r: %s", key, error)
        return b""
