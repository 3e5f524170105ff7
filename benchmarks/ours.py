"""This project's command as a contender: `run_pipeline.py`, with a wrapper that records its batches.

`python -m benchmarks.ours OUTPUT [flags of run_pipeline.py]`. This module imports nothing else than the command, and
nothing earlier, so the start-up is the command's own. It records Beam's calls of the handler. So calls that warm up or
try a model do not count, and a batch counts its images without padding.
"""

import functools
import importlib.machinery
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.peers import contract
from pipeline.launch import main


def after_import(name: str, change: Callable[[ModuleType], None]) -> None:
    """Calls a function with a module once it has been imported, so that the function can replace parts of it."""
    sys.meta_path.insert(0, _AfterImport(name, change))


def record_batches(output: Path) -> None:
    """Makes the command record its batches in its output directory."""

    def wrap(module: ModuleType) -> None:
        infer = module.EmbeddingModelHandler.run_inference

        @functools.wraps(infer)
        def recorded(handler: object, batch: list, *args: object, **kwargs: object) -> list:
            with contract.batch(output, len(batch)):
                return list(infer(handler, batch, *args, **kwargs))

        module.EmbeddingModelHandler.run_inference = recorded

    after_import("transforms.embed", wrap)


class _AfterImport:
    """An import hook that calls a function with one module after its import."""

    def __init__(self, name: str, change: Callable[[ModuleType], None]):
        self._name = name
        self._change = change

    def find_spec(self, name: str, path: Any, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        spec: Any = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            self._change(module)

        spec.loader.exec_module = execute_and_change
        return spec


if __name__ == "__main__":
    record_batches(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
