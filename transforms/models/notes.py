"""Notes: a JSON file that this project writes beside a SavedModel, with its image size, handle and other facts.

The file lies in `assets.extra`, which loaders ignore. It is needed because a version 4 module of TF-Hub takes images of
any size and does not state its own.
"""

import json
from pathlib import Path
from typing import Any

FILE = Path("assets.extra") / "image_model.json"

# A note has a few facts.
_MAX_BYTES = 2**20


def text(image_size: tuple[int, int] | None, **facts: Any) -> str:
    """Returns the text of a note: the model's image size (height, width) in pixels, and any other facts."""
    return json.dumps({"image_size": image_size, **facts}, indent=2) + "\n"


def write(directory: Path, image_size: tuple[int, int], **facts: Any) -> None:
    """Writes the note of the model in a directory."""
    path = directory / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(text(image_size, **facts), encoding="utf-8")


def read_text(path: Path) -> str:
    """Returns the text of a model's note, "" where there is none."""
    file = path / FILE
    return _read(file).decode("utf-8", "replace") if file.is_file() else ""


def handle(path: Path) -> str:
    """Returns the handle in a model's note, "" where there is none."""
    file = path / FILE
    return str(_parse(file).get("handle", "")) if file.is_file() else ""


def image_size(path: Path) -> tuple[int, int] | None:
    """Returns the image size (height, width) in a model's note, in pixels; None where there is none.

    Raises:
      ValueError: if the file has another format than `write` gives it.
    """
    file = path / FILE
    if not file.is_file():
        return None
    size = _parse(file).get("image_size")
    if size is None:
        return None
    try:
        height, width = size
        return int(height), int(width)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f'{str(file)!r}: expected {{"image_size": [height, width]}}') from error


def _read(file: Path) -> bytes:
    """Returns the bytes of a note, which may be a stranger's. Raises ValueError if it is too large for one."""
    with file.open("rb") as content:
        note = content.read(_MAX_BYTES + 1)
    if len(note) > _MAX_BYTES:
        raise ValueError(f"{str(file)!r}: expected a note of at most {_MAX_BYTES} bytes")
    return note


def _parse(file: Path) -> dict[str, Any]:
    try:
        facts = json.loads(_read(file))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(file)!r}: expected JSON: {error}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{str(file)!r}: expected a JSON object")  # noqa: TRY004 - a file's content, not an argument
    return facts
