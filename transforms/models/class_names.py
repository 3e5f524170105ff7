"""Names of the classes that a classifier's outputs stand for."""

from pathlib import Path

_IMAGENET = Path(__file__).parent / "imagenet_labels.txt"


def names(path: Path, is_classifier: bool, outputs: int) -> tuple[str, ...]:
    """Returns the names of a model's classes, () for one that gives feature vectors.

    Args:
      path: the model's directory; a `labels.txt` in it has a name a line.
      is_classifier: whether the model is known to give classes.
      outputs: numbers it gives for an image. 1001 of a classifier are ImageNet's classes, the first of them
        background, as TF-Hub's modules have them; of another number the names are not known, and its own index names
        a class.

    Raises:
      ValueError: if `labels.txt` has another number of names.
    """
    own = path / "labels.txt"
    if own.is_file():
        found = _lines(own)
        if len(found) != outputs:
            raise ValueError(f"{str(own)!r} has {len(found)} names for a model of {outputs} outputs")
        return found
    if not is_classifier:
        return ()
    imagenet = _lines(_IMAGENET)
    return imagenet if len(imagenet) == outputs else tuple(map(str, range(outputs)))


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8").splitlines())
