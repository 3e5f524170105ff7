"""The summary of a run: the text for people at its end."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.flags.options import EmbedConfig
from pipeline.model_checks import similarity
from pipeline.report import unlisted
from pipeline.report.input_rate import InputRate
from pipeline.report.run_report import RunReport
from transforms.elements import one_line
from transforms.elements.one_line import is_seen, name, printable
from transforms.output import layout
from transforms.storage import stores


def summary(report: RunReport, config: EmbedConfig, seconds: float | None = None) -> str:
    """Returns the text for a report: the counts, the speed, its limit, and where the results are.

    Args:
      report: of the run.
      config: of the command.
      seconds: from the start of the command until now. Those of a report end when all files are written, before they
        get their names and the rows are published. None for a run that was complete before.
    """
    counts = report.counts
    others = "".join(f" + {counts[name]} {name}" for name in ("reused", "duplicate", "skipped") if counts[name])
    height, width = report.model["image_size"]
    dimension = report.model["dimension"]
    lines = [
        f"{counts['listed']} images listed = {counts['embedded']} embedded + {counts['failed']} failed{others}",
        "",
        f"  speed     {_speed(report, seconds)}",
        f"  limit     {report.verdict}",
        *([f"  feeds     {InputRate.of_facts(report.feed).text()}"] if report.feed else []),
        f"  model     {name(report.model['name'])}, {dimension} dimensions from {height}x{width} pixels, "
        f"digest {report.model['digest']}",
    ]
    if cosine := similarity.too_large(report.model):
        lines.append(f"  warning   vectors of different photographs hardly differ: median cosine {cosine:.3f}")
    if config.output:
        vectors, page = layout.vectors(config.output, report.run_id), layout.page(config.output, report.run_id)
        suffix = f".{report.output_formats[0]}" if len(report.output_formats) == 1 else ""
        lines += [
            f"  vectors   {name(layout.shards(vectors, suffix))} ({report.shards} files)",
            *(_recall(report.recall) if report.recall else ()),
            f"  report    {name(layout.report(config.output, report.run_id))}",
            *([f"  page      {name(page)}"] if layout.page("", report.run_id) in report.files else []),
            *([_no_page(report, config)] if report.page_error else []),
        ]
        if counts["skipped"] and not config.output_table:
            lines.append(f"  skipped   their vectors are in {layout.shards(name(layout.vectors(config.output, '*')))}")
    if config.output_table:
        pruned = f", {report.pruned} rows pruned" if report.pruned else ""
        lines.append(f"  table     {name(config.output_table)}{pruned}; failures in …_failures, this report in …_runs")
    lines += _rows_not_pruned(report.pruning)
    if len(report.attempts) > 1:
        *earlier, own = report.attempts.values()
        lines.append(f"  attempts  {sum(earlier)} vectors from earlier attempts at this run, {own} from the last")
    lines += [f"  left out  {line}" for line in unlisted.lines(report.left_out, report.inputs, config.input_format)]
    for stage, errors in report.failures.items():
        for error, images in errors.items():
            lines.append(f"  failed    {images} × {printable(error)} in the stage {stage}")
    if report.failures and config.output:
        of_run = layout.failures(name(config.output), report.run_id)
        lines.append(f"            each one: {layout.shards(of_run, layout.FAILURE_SUFFIX)}")
    if config.output and report.shards:
        code = f'  table = pandas.read_parquet({_literal(vectors)}, columns=["key", "embedding"])'
        if "tfrecord" in report.output_formats:
            code = _tfrecords(vectors, dimension, report.vector_type)
        lines += ["", "Read them:", "", code]
    return one_line.printable_lines("\n".join([*lines, ""]))  # a report may come from a file that others wrote


def _no_page(report: RunReport, config: EmbedConfig) -> str:
    from pipeline.report import try_again

    return f"  warning   no page, {report.page_error}; this makes it: {try_again.make_page(config)}"


def _speed(report: RunReport, seconds: float | None) -> str:
    if seconds is None:
        return f"{report.images_per_second:.1f} images/s, {report.elapsed_seconds:.1f} s until all was written"
    images = report.images_per_second * report.elapsed_seconds  # not those of earlier attempts
    return f"{images / max(seconds, 1e-3):.1f} images/s, {seconds:.1f} s in all"


def _rows_not_pruned(pruning: Mapping[str, Any]) -> Iterator[str]:
    """Yields the reasons why rows stay although their keys are no longer listed."""
    if pruning.get("hidden"):
        yield (
            f"  kept      {pruning['hidden']} rows whose images may be where nothing could be listed: "
            f"{', '.join(name(place) for place in pruning['places'])}"
        )
    if pruning.get("untold"):
        yield (
            f"  kept      {pruning['untold']} rows that are not listed and whose records do not say that the image was "
            "a file: in a shard, or of an earlier version (docs/warehouse.md)"
        )


def _recall(recall: Mapping[str, float]) -> Iterator[str]:
    yield (
        f"  float16   keeps {recall['at_10']:.1%} of the 10 nearest neighbours in float32, "
        f"over {recall['vectors']:,} vectors of this run"
    )


def _literal(text: str) -> str:
    """Returns a text as a Python string literal in which every character is visible."""
    if '"' not in text and "\\" not in text and is_seen(text):
        return f'"{text}"'
    return "".join(each if is_seen(each) else ascii(each)[1:-1] for each in repr(text))


def _tfrecords(vectors: str, dimension: int, vector_type: str) -> str:
    is_unread = vectors.startswith(stores.WITH_EXTRAS)
    first = "  # TensorFlow reads no such buckets: copy the files to a disk first\n" if is_unread else ""
    return first + _reading(vectors, dimension, vector_type)


def _reading(vectors: str, dimension: int, vector_type: str) -> str:
    pattern = _literal(layout.shards(vectors.replace("\\", r"\\"), ".tfrecord"))  # in a glob, a backslash is an escape
    if vector_type == "float16":
        return (
            f"  files = tf.io.gfile.glob({pattern})\n"
            '  spec = {name: tf.io.FixedLenFeature([], tf.string) for name in ("image/key", "embedding/float16")}\n'
            "  table = tf.data.TFRecordDataset(files).map(lambda record: tf.io.parse_single_example(record, spec))\n"
            '  vectors = table.map(lambda row: tf.io.decode_raw(row["embedding/float16"], tf.float16))'
        )
    return (
        f"  files = tf.io.gfile.glob({pattern})\n"
        '  spec = {"image/key": tf.io.FixedLenFeature([], tf.string), '
        f'"embedding": tf.io.FixedLenFeature([{dimension}], tf.float32)}}\n'
        "  table = tf.data.TFRecordDataset(files).map(lambda record: tf.io.parse_single_example(record, spec))"
    )
