"""What this project notes beside a SavedModel, in `assets.extra`, which loaders pass over: the image size, the handle.

A version 4 module takes images of any size, and does not tell which is its own.
"""

import json
from pathlib import Path
from typing import Any

FILE = Path("assets.extra") / "image_model.json"


def text(image_size: tuple[int, int] | None, **facts: Any) -> str:
    """Returns the note of a model: its image size (height, width), and whatever else is known of it."""
    return json.dumps({"image_size": image_size, **facts}, indent=2) + "\n"


def note(directory: Path, image_size: tuple[int, int], **facts: Any) -> None:
    """Writes the note of a model beside it."""
    path = directory / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(text(image_size, **facts), encoding="utf-8")


def content(path: Path) -> str:
    """Returns the whole note of a model, "" where there is none."""
    file = path / FILE
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def handle(path: Path) -> str:
    """Returns the noted handle of a model, "" where none is noted."""
    file = path / FILE
    return str(_read(file).get("handle", "")) if file.is_file() else ""


def image_size(path: Path) -> tuple[int, int] | None:
    """Returns the noted image size (height, width) of a model, None where none is noted.

    Raises:
      ValueError: if the note is not one of ours.
    """
    file = path / FILE
    if not file.is_file():
        return None
    size = _read(file).get("image_size")
    if size is None:
        return None
    try:
        height, width = size
        return int(height), int(width)
    except (ValueError, TypeError) as error:
        raise ValueError(f'{str(file)!r}: expected {{"image_size": [height, width]}}') from error


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(file)!r}: expected JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{str(file)!r}: expected a JSON object")  # noqa: TRY004 - a file's content, not an argument
    return found
