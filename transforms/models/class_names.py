"""Names of the classes of a classifier's outputs."""

from pathlib import Path

# The names of a million classes have 20 MB.
_MAX_BYTES = 2**26

_IMAGENET = Path(__file__).parent / "imagenet_labels.txt"


def names(path: Path, is_classifier: bool, outputs: int) -> tuple[str, ...]:
    """Returns the names of the classes of a model with this many outputs, () for a model of feature vectors.

    A `labels.txt` in the model's directory decides, with one name per line. Without it, a classifier with 1001 outputs
    gets ImageNet's names: in TF-Hub's modules, the first of its outputs is the background. Any other classifier gets
    the index of each output as its name.

    Raises:
      ValueError: if `labels.txt` has another number of names.
    """
    labels_file = path / "labels.txt"
    if labels_file.is_file():
        labels = _read(labels_file)
        if len(labels) != outputs:
            raise ValueError(f"{str(labels_file)!r} has {len(labels)} names for a model of {outputs} outputs")
        return labels
    if not is_classifier:
        return ()
    imagenet = _read(_IMAGENET)
    return imagenet if len(imagenet) == outputs else tuple(map(str, range(outputs)))


def _read(path: Path) -> tuple[str, ...]:
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise ValueError(f"{str(path)!r} has {size} bytes: expected at most {_MAX_BYTES}, one name per line")
    return tuple(path.read_text(encoding="utf-8").splitlines())
