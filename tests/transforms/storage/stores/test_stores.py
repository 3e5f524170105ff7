"""transforms.storage.stores: the store of a path, by its scheme."""

import importlib.util
import inspect
import subprocess
import sys

import pytest

from tests.helpers.running import ROOT
from transforms.storage import stores
from transforms.storage.stores.store import Store

MODULES = [
    name for name in ("gcs", "s3", "azure") if importlib.util.find_spec(f"transforms.storage.stores.{name}") is not None
]


@pytest.mark.parametrize("path", ["ftp://host/a", "GS://photos/a", "file:///a", "://a", "gs2://photos/a"])
def test_an_unknown_scheme_is_told_with_those_that_are_known(path):
    with pytest.raises(ValueError, match=f"^'{path}': expected gs://BUCKET/NAME, s3://BUCKET/NAME, .* or a local path"):
        stores.of(path)
    assert not stores.is_bucket(path)


@pytest.mark.parametrize(("path", "extra"), [("s3://photos/a", "s3"), ("az://photos/a", "azure")])
def test_a_client_that_is_missing_is_said_in_one_line(monkeypatch, path, extra):
    def missing(name):
        if "." in name:
            raise ModuleNotFoundError(name)  # as where azure-core is missing too

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    scheme = path.partition("/")[0]
    with pytest.raises(ValueError) as error:
        stores.of(path)
    assert str(error.value) == f"{path!r}: {scheme}// needs pip install 'beam-image-embeddings[{extra}]'"


@pytest.mark.parametrize("scheme", ["gs", "s3", "az"])
def test_buckets_are_known_by_their_scheme_alone(scheme):
    assert stores.is_bucket(f"{scheme}://photos/**") and not stores.is_bucket(f"/{scheme}://photos")


@pytest.mark.parametrize("name", MODULES)
def test_each_kind_of_bucket_has_the_interface(name):
    module = pytest.importorskip(f"transforms.storage.stores.{name}", exc_type=ImportError)
    functions = [function for function in vars(Store) if not function.startswith("_") and function.islower()]
    assert {"listed", "described", "read", "opened", "create", "write", "copy", "remove", "ask"} <= set(functions)
    for function in functions:
        expected = list(inspect.signature(getattr(Store, function)).parameters.values())[1:]
        actual = inspect.signature(getattr(module, function)).parameters.values()
        assert [(each.name, each.kind, each.default) for each in actual] == [
            (each.name, each.kind, each.default) for each in expected
        ], function
    assert module.ENDPOINT_VARIABLE.isupper()


def test_a_client_is_imported_when_a_path_is_used():
    heavy = "{'google.cloud.storage', 'boto3', 'azure.storage.blob', 'apache_beam', 'pycurl'}"
    code = "import sys; from transforms.storage import stores; stores.is_bucket('gs://b/a'); "
    code += f"print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_a_url_is_told_where_it_belongs():
    with pytest.raises(ValueError, match="URLs of images belong into a list: --input_format list$"):
        stores.of("https://example.com/a.jpg")
