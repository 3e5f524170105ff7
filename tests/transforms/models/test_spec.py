"""transforms.models.spec: a digest that tells which vectors are comparable."""

from transforms.models.preprocessing import Preprocessing
from transforms.models.spec import digest


def test_the_digest_covers_the_weights_and_what_is_called():
    use = {"files": "f", "signature": "", "tags": (), "image_size": (8, 8), "preprocessing": Preprocessing()}
    changes = [
        {},
        {"files": "g"},
        {"signature": "s"},
        {"tags": ("train",)},
        {"image_size": (8, 9)},
        {"preprocessing": Preprocessing(resize_mode="pad")},
        {"output": "pooled"},
    ]
    assert len({digest(**(use | change)) for change in changes}) == len(changes)


def test_a_digest_of_a_model_with_one_output_is_that_of_earlier_versions():
    use = {"files": "f", "signature": "", "tags": (), "image_size": (8, 8), "preprocessing": Preprocessing()}
    assert digest(**use) == "f92e27aadab575379b7dd53925ae9fc6fe75d4ab0eaf3b9a363e52bc03ccb83e"
