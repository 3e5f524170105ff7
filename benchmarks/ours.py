"""This project's command as a contender: `run_pipeline.py`, with a wrapper that records its batches.

`python -m benchmarks.ours OUTPUT [flags of run_pipeline.py]`. This module imports nothing else than the command, and
nothing earlier, so the start-up is the command's own. It records Beam's calls of the handler. So calls that warm up or
try a model do not count, and a batch counts its images without padding.
"""

import functools
import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.peers import contract
from pipeline.launch import main

_MODULE = "transforms.embed"


class _BatchRecorder:
    """An import hook that wraps the handler when its module is imported, and so records its batches."""

    def __init__(self, output: Path):
        self._output = output

    def find_spec(self, name: str, path: Any, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != _MODULE:
            return None
        spec: Any = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_wrap(module: ModuleType) -> None:
            execute(module)
            self._wrap(module)

        spec.loader.exec_module = execute_and_wrap
        return spec

    def _wrap(self, module: ModuleType) -> None:
        infer = module.EmbeddingModelHandler.run_inference

        @functools.wraps(infer)
        def recorded(handler: object, batch: list, *args: object, **kwargs: object) -> list:
            with contract.batch(self._output, len(batch)):
                return list(infer(handler, batch, *args, **kwargs))

        module.EmbeddingModelHandler.run_inference = recorded


if __name__ == "__main__":
    sys.meta_path.insert(0, _BatchRecorder(Path(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
