"""transforms.models.spec: a digest that tells which vectors are comparable."""

from transforms.models.spec import digest


def test_the_digest_covers_the_weights_and_what_is_called():
    use = {"files": "f", "signature": "", "tags": (), "image_size": (8, 8), "resize_mode": "stretch"}
    changes = [
        {},
        {"files": "g"},
        {"signature": "s"},
        {"tags": ("train",)},
        {"image_size": (8, 9)},
        {"resize_mode": "pad"},
    ]
    assert len({digest(**(use | change)) for change in changes}) == len(changes)
