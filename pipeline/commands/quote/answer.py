"""The answer of a dry run: the job, its stages and workers, and a quote, as text and as JSON."""

import dataclasses
import json
from collections.abc import Iterator

from apache_beam.options.pipeline_options import DebugOptions, GoogleCloudOptions, PipelineOptions, WorkerOptions

from pipeline.commands.quote.bill import Bill, Item, Prices, Workers, in_full
from pipeline.commands.quote.bucket import Bucket
from pipeline.commands.quote.dataflow_job import Job, Stage
from pipeline.commands.quote.speed import Speed
from pipeline.report.input_rate import InputRate
from pipeline.runners import presets
from transforms.models.spec import ModelSpec

# If images are this many times as large as the sample's, the speed of decoding the sample says little about them.
_MUCH_LARGER = 2


@dataclasses.dataclass(frozen=True)
class Quote:
    """The cost of the job.

    Attributes:
      images: number of images.
      image_bytes: mean size of an image.
      speed, prices: from which the bills are calculated.
      bills: one for each way to run the job.
      chosen: the name of this job's bill.
      bucket: what reading from a bucket costs; None if the images are in none.
    """

    images: int
    image_bytes: int
    speed: Speed
    prices: Prices
    bills: list[Bill]
    chosen: str
    bucket: Bucket | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """The result of a dry run.

    Attributes:
      options: of the job.
      job: as Dataflow would get it.
      stages: as Beam fuses them.
      model: the model that the job embeds with.
      plain: its workers without a GPU.
      gpu: its workers with a GPU, if any.
      quote: its cost.
    """

    options: PipelineOptions
    job: Job
    stages: list[Stage]
    model: ModelSpec
    plain: Workers
    gpu: Workers | None
    quote: Quote

    def as_json(self) -> str:
        """Returns the whole answer as JSON, for programs."""
        quote = dataclasses.asdict(self.quote)
        quote["options"] = quote.pop("bills")
        del quote["chosen"]
        document = {
            "job_request": self.job.request,
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
            "workers": [dataclasses.asdict(workers) for workers in (self.plain, self.gpu) if workers],
            "model": self.model.facts(),
            "quote": quote,
        }
        return json.dumps(document, indent=2)

    def as_text(self) -> str:
        """Returns the answer as text, for people."""
        max_workers = self.options.view_as(WorkerOptions).max_num_workers
        quote = [*_speed_lines(self.quote), _feed_line(self.quote.speed, self.gpu or self.plain)]
        quote += _bill_lines(self.quote, max_workers)
        quote += ["", *self.quote.bucket.lines()] if self.quote.bucket else []
        sections = (f"{name:<12}{value}" for name, value in self._job_rows()), self._stage_lines(), quote
        return "\n\n".join("\n".join(lines) for lines in sections)

    def _job_rows(self) -> Iterator[tuple[str, str]]:
        cloud, scaling = self.options.view_as(GoogleCloudOptions), self.options.view_as(WorkerOptions)
        environment = self.job.request["environment"]
        experiments = environment["experiments"]
        pool = environment["workerPools"][0]
        yield "job", f"{self.job.request['name']} in {cloud.project}, {cloud.region}; nothing was submitted"
        started = scaling.num_workers or "as many as Dataflow starts with"
        yield "workers", f"{started}, at most {scaling.max_num_workers or '-'}"
        yield "machine", _machine(self.plain)
        if self.gpu and (accelerator := self.gpu.accelerator):
            yield "GPU machine", _machine(self.gpu)
            yield "accelerator", f"{accelerator.count} × {accelerator.gpu}; hint {accelerator.hint}"
        processes = "one" if presets.ONE_PROCESS in experiments else "one for each vCPU"
        threads = self.options.view_as(DebugOptions).number_of_worker_harness_threads
        chosen = f"{threads} threads" if threads else "as many threads as Dataflow chooses"
        yield "processes", f"{processes} a worker, {chosen}"
        yield "container", ", ".join(sorted({each["containerImage"] for each in pool["sdkHarnessContainerImages"]}))
        staged = ", ".join(package["name"] for package in pool.get("packages", []))
        yield "staged", staged or "nothing: the container has it"
        yield "model", f"{self.model.name}, from {self.model.location or 'the package'}"
        yield "experiments", ", ".join(experiments)

    def _stage_lines(self) -> list[str]:
        components = self.job.pipeline.components
        (root,) = (components.transforms[name] for name in self.job.pipeline.root_transform_ids)
        order = [components.transforms[name].unique_name for name in root.subtransforms]
        rows = sorted(
            {(stage.steps, bool(stage.accelerator)) for stage in self.stages if stage.steps},
            key=lambda row: [order.index(step) for step in row[0]],
        )
        return [
            "stages, as Beam fuses them; Dataflow may join more, and a joined stage has the GPU if a part of it has",
            *(f"  {'GPU  ' if on_gpu else 'plain'}  {' + '.join(steps)}" for steps, on_gpu in rows),
        ]


def _machine(workers: Workers) -> str:
    shape = workers.shape
    return f"{workers.machine_type}: {shape.vcpus} vCPUs, {shape.memory_gb:g} GB, {workers.disk_gb} GB disk"


def _speed_lines(quote: Quote) -> list[str]:
    speed = quote.speed
    lines = [
        f"quote for {quote.images:,} images of {quote.image_bytes:,} bytes: "
        f"{quote.images * quote.image_bytes / 1e9:,.1f} GB to read",
        f"  decode   {speed.decode:.6f} s an image and core, {speed.decoded}",
        f"  python   {speed.python:.6f} s an image and core, and no two at once in a process: see docs/performance.md",
        f"  embed    {speed.embed:.6f} s an image and {'worker' if speed.on_gpu else 'core'}: {speed.embedded}",
    ]
    if quote.image_bytes > _MUCH_LARGER * speed.sample_bytes:
        times = quote.image_bytes / speed.sample_bytes
        lines.append(f"           your images are {times:.0f} times as large: give some with --sample")
    return lines


def _feed_line(speed: Speed, workers: Workers) -> str:
    """Returns how fast a device a worker could feed, and how much of the worker its own GPU needs."""
    vcpus = workers.shape.vcpus
    feed = InputRate.of(
        speed.before_model, speed.python, vcpus, *((1, speed.decode) if workers.accelerator else (vcpus,))
    )
    line = f"  feed     a worker with {vcpus} vCPUs could feed {feed.text()}"
    if not speed.on_gpu:
        return line
    rate = 1 / speed.embed
    return f"{line}; {feed.cores_for(rate)} for {rate:,.0f} images/s"


def _bill_lines(quote: Quote, max_workers: int | None) -> list[str]:
    prices = quote.prices
    lines = [
        f"  prices   US dollars, {prices.region}, {prices.date}: {prices.source}",
        "  without  starting workers and installing drivers, retries, requests to storage; discounts of any kind",
    ]
    for bill in quote.bills:
        lines += ["", f"  {bill.name}: ${bill.dollars:,.2f}{'   ← this job' * (bill.name == quote.chosen)}"]
        for item in bill.items:
            lines += _item_lines(item, max_workers)
    return lines


def _item_lines(item: Item, max_workers: int | None) -> list[str]:
    amount = f"{item.amount:,.3f} {item.unit}"
    lines = [f"    {item.what}: {item.reckoned} = {amount}"]
    if item.priced:
        lines.append(f"      one an hour: {item.priced} = ${item.price:.6f}")
    lines.append(f"      {amount} × ${in_full(item.price)} = ${item.dollars:,.2f}")
    if item.unit == "h" and max_workers:
        lines.append(f"      on {max_workers} workers at least {item.amount / max_workers:,.3f} h")
    return lines
