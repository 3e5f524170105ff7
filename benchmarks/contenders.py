"""The contenders of the benchmarks. Each runs in a process of its own, by one contract, `peers/contract.py`."""

import dataclasses
from pathlib import Path

from benchmarks import environments, machine
from benchmarks.models import Model
from transforms.concurrent.cores import usable_cores

_PEERS = Path(__file__).parent / "peers"

OURS, PEER, ROOF = "ours", "peer", "roof"


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to get vectors.

    Attributes:
      name: its name in the table and in `--only`.
      kind: OURS, PEER or ROOF.
      description: a few words for the table.
      script: a file in `benchmarks/peers/` for a PEER, else a module of `benchmarks`.
      flags: flags after the contract's arguments.
      environment: `project`, or a key of environments.REQUIREMENTS.
      roof: the name of the contender that is this one's roof.
      writes_vectors: whether it does the whole job, and not a part of it.
      is_first: whether it starts without the results that earlier runs of this project cached about the model.
      cores: the number of cores that it may use; None for all of this machine.
      device_rate: images per second of the simulated device that it has; None without one.
    """

    name: str
    kind: str
    description: str
    script: str
    flags: tuple[str, ...] = ()
    environment: str = "project"
    roof: str = "loop"
    writes_vectors: bool = True
    is_first: bool = False
    cores: int | None = None
    device_rate: int | None = None

    @property
    def directory(self) -> str:
        """The name of a directory for its output."""
        device = f"-device-{self.device_rate}" if self.device_rate else ""
        return f"{self.name}{device}{f'-cores-{self.cores}' if self.cores else ''}"

    def command(self, photographs: Path, saved_model: Path, model: Model, output: Path, cache: Path) -> list[str]:
        """Returns the command, which runs from this project's root."""
        limit = machine.on_cores(self.cores) if self.cores else []
        return [*limit, *self._command(photographs, saved_model, model, output, cache)]

    def _command(self, photographs: Path, saved_model: Path, model: Model, output: Path, cache: Path) -> list[str]:
        python = environments.python(self.environment, cache)
        if self.kind == OURS:
            paths = ("--input", photographs, "--output", output, "--model", model.handle or saved_model)
            flags = (*paths, "--batch_size", model.batch_size, *self.flags)
            return [python, "-m", f"benchmarks.{self.script}", str(output), *map(str, flags)]
        script = [str(_PEERS / self.script)] if self.kind == PEER else ["-m", f"benchmarks.{self.script}"]
        size = ("--image_size", *model.image_size, "--batch_size", model.batch_size, "--dimension", model.dimension)
        return [python, *script, *map(str, (photographs, saved_model, output, *size, *self.flags))]

    def environment_variables(self, output: Path, cache: Path) -> dict[str, str]:
        """Returns the variables to add to the environment of the command."""
        return cache_variables(output.with_suffix(".cache") if self.is_first else cache / "models-cache")


def cache_variables(directory: Path) -> dict[str, str]:
    """Returns the environment variables with which this project caches its results about models in a directory."""
    return {"BEAM_IMAGE_EMBEDDINGS_CACHE": str(directory)}


def available() -> list[Contender]:
    """Returns the contenders that this machine supports; the first is the reference."""
    cores = str(usable_cores())
    ours = [
        Contender("ours", OURS, "run_pipeline.py", "ours"),
        Contender("ours-first", OURS, "the same, its first run with a model", "ours", is_first=True),
    ]
    if machine.has_bfloat16():
        bfloat16 = ("--precision", "bfloat16")
        description = "the same as ours, --precision bfloat16"
        ours.append(Contender("ours-bfloat16", OURS, description, "ours", bfloat16, roof="loop-bfloat16"))
    return [
        *ours,
        Contender("plain", PEER, "a script: Pillow, SavedModel", "plain.py"),
        Contender("plain-threads", PEER, f"the same, {cores} threads decode ahead", "plain.py", ("--threads", cores)),
        Contender("tf-data", PEER, "tf.data, AUTOTUNE", "tf_data.py"),
        Contender("beam-1", PEER, "Beam, a plain handler, 1 thread", "beam_handler.py", ("--threads", "1")),
        Contender("beam", PEER, f"the same, {cores} threads", "beam_handler.py", ("--threads", cores)),
        Contender("ray", PEER, "Ray Data, read_images, map_batches", "ray_data.py", environment="ray"),
        Contender("daft", PEER, "Daft, decode_image, a batch method", "daft_dataframe.py", environment="daft"),
        *_roof(),
    ]


def _roof() -> list[Contender]:
    cores = usable_cores()
    loop = f"by hand: OpenVINO, {cores} threads decode and call"
    roof = [Contender("loop", ROOF, loop, "roof")]
    if machine.has_bfloat16():
        bfloat16 = ("--precision", "bfloat16")
        roof.append(Contender("loop-bfloat16", ROOF, "the same in bfloat16", "roof", bfloat16))
    parts = {"decode": f"alone, {cores} threads", "model": f"alone, {cores} calls at once", "write": "records, alone"}
    return roof + [
        Contender(part, ROOF, description, "roof", ("--part", part), writes_vectors=False)
        for part, description in parts.items()
    ]
