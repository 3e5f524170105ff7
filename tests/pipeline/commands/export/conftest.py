"""A real PostgreSQL for the tests of its table."""

import psycopg
import pytest

from tests.helpers.postgres import postgres_server


@pytest.fixture(scope="module")
def postgres():
    """A server, and this process pointed at it by libpq's variables."""
    with postgres_server() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture
def connection(postgres):
    """A connection to an empty database."""
    with psycopg.connect("", autocommit=True, options="-c lock_timeout=20s") as opened:
        opened.execute("DROP SCHEMA public CASCADE")
        opened.execute("CREATE SCHEMA public")
        yield opened
