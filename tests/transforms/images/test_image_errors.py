"""transforms.images.image_errors: a name for each thing that can be wrong with an image, and all in the documents."""

from pathlib import Path

from transforms.images import decoding, image_errors

ROOT = Path(__file__).parents[3]


def test_all_errors_are_of_one_image_and_documented():
    kinds = [
        kind
        for kind in vars(image_errors).values()
        if isinstance(kind, type) and kind.__module__ == image_errors.__name__
    ]
    assert len(kinds) == 8 and all(issubclass(kind, image_errors.ImageError) for kind in kinds)
    formats = (ROOT / "docs" / "formats.md").read_text()
    assert [
        kind.__name__ for kind in kinds if kind is not image_errors.ImageError and f"`{kind.__name__}`" not in formats
    ] == []
    # Whoever calls `decode` finds them beside it.
    assert all(getattr(decoding, kind.__name__) is kind for kind in kinds)
