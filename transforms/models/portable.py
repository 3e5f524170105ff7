"""Portable models: ONNX, OpenVINO IR and TFLite. Each is one file with its network, and perhaps files with its weights.

Paths in a file come from strangers. The files of a model must lie in the directory of its main file or below it.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from transforms.models import onnx_external, preprocessing_files

# The suffix of the main file → the format.
FORMATS = {".onnx": "onnx", ".xml": "openvino", ".tflite": "tflite"}

# Files as staged. Exporters name the external data of ONNX in several ways.
MAIN_FILES = frozenset(f"model{suffix}" for suffix in FORMATS)
_LABELS = "labels.txt"
ENTRIES = MAIN_FILES | {"model.bin", "model.onnx_data", "model.onnx.data", _LABELS, *preprocessing_files.NAMES}

# protobuf and flatbuffers take no larger messages. An IR has its weights in another file than its .xml.
_MAX_BYTES = {"onnx": 2**31, "openvino": 2**28, "tflite": 2**31}

# ONNX Runtime and OpenVINO use the offset of such a tensor as an address in the memory of the process.
_MEMORY_ADDRESS = "_ORT_MEM_ADDR_"


@dataclasses.dataclass(frozen=True)
class PortableModel:
    """The files of a portable model.

    Attributes:
      format: a value of FORMATS.
      main: the file with the network.
      files: name → path of all files, the main one first. The names do not depend on the name of the main file.
      location: of the main file, for messages; "" for its path.
    """

    format: str
    main: Path
    files: Mapping[str, Path]
    location: str = ""

    def named(self) -> str:
        """Returns the model as messages name it."""
        return f"model={self.location or str(self.main)!r}"


def is_portable(name: str) -> bool:
    """Returns whether a name is that of the main file of a portable model."""
    return PurePosixPath(name).suffix in FORMATS


def find(path: Path) -> PortableModel | None:
    """Returns the portable model in a file, or in a directory that holds exactly one; None for any other model.

    A `labels.txt` in the directory is part of the model, and so are the files of `preprocessing_files` beside the main
    file. Other files there are not.

    Raises:
      ValueError: if the directory holds several, or if the model's files are missing, too large or elsewhere.
    """
    main = _main_file(path)
    if main is None:
        return None
    if not main.is_file():
        raise ValueError(f"model={str(path)!r}: expected regular files, and {str(main)!r} is none")
    model_format = FORMATS[main.suffix]
    if (size := main.stat().st_size) > _MAX_BYTES[model_format]:
        raise ValueError(f"{str(main)!r} has {size} bytes: expected at most {_MAX_BYTES[model_format]}")
    files = {f"model{main.suffix}": main}
    for name in companions(main):
        own_name = "model.bin" if model_format == "openvino" else name
        if own_name in files:
            raise ValueError(f"{str(main)!r} has external data in {name!r}: expected another name")
        files[own_name] = _companion(main, name)
    if path.is_dir() and (path / _LABELS).is_file():
        files.setdefault(_LABELS, path / _LABELS)
    for name, file in preprocessing_files.find(main).items():
        files.setdefault(name, file)
    return PortableModel(model_format, main, files)


def companions(main: Path) -> list[str]:
    """Returns the names of the other files of a model, relative to the directory of its main file.

    They may not exist yet: a download asks for them.

    Raises:
      ValueError: if a name leads out of that directory, or the main file is broken.
    """
    if FORMATS[main.suffix] == "openvino":
        return [main.with_suffix(".bin").name]
    if FORMATS[main.suffix] != "onnx":
        return []
    state = main.stat()
    return list(_external(main, state.st_size, state.st_mtime_ns))


@functools.lru_cache(maxsize=8)
def _external(main: Path, size: int, changed: int) -> tuple[str, ...]:
    names = onnx_external.locations(main)
    for name in names:
        path = PurePosixPath(name)
        is_inside = path.parts and not path.is_absolute() and ".." not in path.parts and "\0" not in name
        if not is_inside or _MEMORY_ADDRESS in name:
            raise ValueError(
                f"{str(main)!r} has external data in {name!r}: expected a file in the directory of the model or below"
            )
    return tuple(dict.fromkeys(PurePosixPath(name).as_posix() for name in names))


def _main_file(path: Path) -> Path | None:
    if not path.is_dir():
        return path if is_portable(path.name) else None
    if (path / "saved_model.pb").exists():
        return None
    # Other tools write .xml files too, but not in pairs with a .bin file.
    mains = [
        file
        for suffix in FORMATS
        for file in sorted(path.glob(f"*{suffix}"))
        if suffix != ".xml" or file.with_suffix(".bin").exists()
    ]
    if len(mains) > 1:
        names = ", ".join(file.name for file in mains[:5])
        raise ValueError(f"model={str(path)!r} holds {len(mains)} models, {names}: give the path of one of them")
    return mains[0] if mains else None


def _companion(main: Path, name: str) -> Path:
    directory = main.parent.resolve()
    file = directory / name
    if file.resolve() != file:
        raise ValueError(f"{str(main)!r} has data in {name!r}, which is a link: expected the file itself")
    if not file.is_file():
        raise ValueError(f"{str(main)!r} has data in {name!r}: there is no such file in {str(main.parent)!r}")
    return file
