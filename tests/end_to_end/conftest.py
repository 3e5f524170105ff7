"""Fixtures of several whole jobs."""

import pytest

from tests.helpers.warehouses import Warehouse, name_of


@pytest.fixture
def warehouse(cloud, request) -> Warehouse:
    """A bucket and a dataset of the test's own."""
    return Warehouse(cloud, name_of(request))
