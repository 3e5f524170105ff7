"""A pool whose users leave at the end, and processes that images can hang or crash."""

import pytest

from tests.helpers.decoder_pools import HOSTILE, SETTINGS
from transforms.decoders import pool


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """Lets processes start with HOSTILE."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(HOSTILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "start"))


@pytest.fixture
def joined():
    """Returns a function that joins a pool; all leave at the end."""
    users = []

    def join(settings=SETTINGS):
        users.append((settings, pool.join(settings)))
        return users[-1][1]

    yield join
    for settings, user in users:
        pool.leave(settings, user)
