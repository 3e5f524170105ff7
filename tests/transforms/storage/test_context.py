"""transforms.storage.context: one value, which travels to workers."""

import dataclasses
import pickle

import pytest

from transforms.storage.context import DEFAULT_STORAGE, Storage


def test_it_travels_and_is_the_same_there():
    storage = Storage("payer")
    assert pickle.loads(pickle.dumps(storage)) == storage  # noqa: S301 - its own
    assert Storage(**dataclasses.asdict(storage)) == storage
    assert len({storage, Storage("payer"), DEFAULT_STORAGE}) == 2


def test_it_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULT_STORAGE.billing_project = "payer"
