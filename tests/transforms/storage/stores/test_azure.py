"""transforms.storage.stores.azure: whose credentials a request has, and where it goes."""

import datetime
import re
import time
import types

import pytest
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

from tests.helpers import object_servers
from transforms.storage import http_get
from transforms.storage.context import DEFAULT_STORAGE
from transforms.storage.errors import StorageError
from transforms.storage.stores import azure as store
from transforms.storage.stores import store as interface

TOP = "az://of-azure"
NAMES = ("CONNECTION_STRING", "ACCOUNT", "ACCOUNT_NAME", "KEY", "ACCOUNT_KEY", "SAS_TOKEN")
NOTHING = {f"AZURE_STORAGE_{name}": None for name in NAMES}
KEY = "c2VjcmV0"


@pytest.fixture
def content(azure):
    """The content of az://of-azure/a b.jpg."""
    with object_servers.clients_of(azure):
        if "of-azure" not in [each.name for each in store.client().list_containers()]:
            object_servers.make_bucket(TOP)
        with store.create(DEFAULT_STORAGE, f"{TOP}/a b.jpg") as file:
            file.write(b"content")
        yield b"content"


def read_and_listed():
    """Returns what reading by libcurl and listing by the client give."""
    (stored,) = store.listed(DEFAULT_STORAGE, f"{TOP}/a")
    return store.read(DEFAULT_STORAGE, stored.path, stored.version)


def signature(text, **permissions):
    parts = dict(part.partition("=")[::2] for part in text.split(";"))
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    types = ResourceTypes(service=True, container=True, object=True)
    account = generate_account_sas(
        parts["AccountName"], parts["AccountKey"], types, AccountSasPermissions(**permissions), end
    )
    return f"BlobEndpoint={parts['BlobEndpoint']};SharedAccessSignature={account}"


def test_a_signature_of_the_user_is_used_for_all_requests(azure, content):
    text = azure["AZURE_STORAGE_CONNECTION_STRING"]
    with object_servers.clients_of({"AZURE_STORAGE_CONNECTION_STRING": signature(text, read=True, list=True)}):
        assert read_and_listed() == content
        with pytest.raises(PermissionError) as error:
            store.create(DEFAULT_STORAGE, f"{TOP}/new").close()
        assert "sig=" not in str(error.value)
    with object_servers.clients_of({"AZURE_STORAGE_CONNECTION_STRING": signature(text, list=True)}):
        with pytest.raises(PermissionError) as error:
            store.read(DEFAULT_STORAGE, f"{TOP}/a b.jpg", "")
        assert "sig=" not in str(error.value)


@pytest.mark.parametrize(
    ("variables", "has"),
    [
        ({"ACCOUNT": "mine", "KEY": KEY}, "sig="),
        ({"ACCOUNT_NAME": "mine", "ACCOUNT_KEY": KEY}, "sig="),
        ({"ACCOUNT": "mine", "SAS_TOKEN": "sv=2022&sig=given"}, "sv=2022&sig=given"),
        ({"ACCOUNT": "mine", "SAS_TOKEN": "?sv=2022&sig=given"}, "sv=2022&sig=given"),
    ],
    ids=["key", "account_key", "sas", "sas with ?"],
)
def test_an_account_is_named_by_variables(variables, has):
    with object_servers.clients_of(NOTHING | {f"AZURE_STORAGE_{name}": value for name, value in variables.items()}):
        assert store.endpoint() == "https://mine.blob.core.windows.net/"
        request = store._request("az://photos/a b/ü#.jpg", {})
        url, _, query = request.url.partition("?")
        assert url == "https://mine.blob.core.windows.net/photos/a%20b/%C3%BC%23.jpg"
        assert has in query and KEY not in request.url and "Authorization" not in request.headers


def test_an_account_alone_has_the_credentials_of_the_machine(monkeypatch):
    token = types.SimpleNamespace(get_token=lambda *scopes, **options: types.SimpleNamespace(token="of-the-machine"))  # noqa: S106
    monkeypatch.setattr(store, "_found_credential", lambda: token)
    with object_servers.clients_of(NOTHING | {"AZURE_STORAGE_ACCOUNT": "mine"}):
        request = store._request("az://photos/a.jpg", {})
        assert request.headers["Authorization"] == "Bearer of-the-machine" and "?" not in request.url


def test_public_containers_are_read_without_credentials(monkeypatch):
    monkeypatch.setattr(store, "_found_credential", lambda: None)
    with object_servers.clients_of(NOTHING | {"AZURE_STORAGE_ACCOUNT": "mine"}):
        request = store._request("az://photos/a.jpg", {})
        assert "Authorization" not in request.headers and "?" not in request.url


def test_without_an_account_the_variables_are_named():
    with object_servers.clients_of(NOTHING), pytest.raises(ValueError, match="AZURE_STORAGE_CONNECTION_STRING"):
        store.described(DEFAULT_STORAGE, "az://photos/a.jpg")


def test_a_signature_is_replaced_before_it_ends(azure, content, monkeypatch):
    def end_of(request):
        return datetime.datetime.fromisoformat(re.search(r"[?&]se=([^&]*)", request.url)[1].replace("%3A", ":"))

    first = end_of(store._request(f"{TOP}/a", {}))
    now = time.time()
    assert first.timestamp() - now > 23 * 3600
    monkeypatch.setattr(store.time, "time", lambda: now + store._SIGNED_SECONDS / 2)
    store._request(f"{TOP}/a", {})
    assert store._signature.cache_info().misses >= 2


@pytest.mark.parametrize("part", ["key", "signature"])
def test_no_error_and_no_cause_of_it_has_a_signature(part, monkeypatch):
    credential = f"AccountName=a;AccountKey={KEY}" if part == "key" else "SharedAccessSignature=sv=2022&sig=not-told"
    url = f"http://127.0.0.1:{object_servers.free_port()}/a"
    monkeypatch.setattr(http_get, "RETRY", http_get.RETRY.with_timeout(0.1))
    with object_servers.clients_of({"AZURE_STORAGE_CONNECTION_STRING": f"{credential};BlobEndpoint={url}"}):
        monkeypatch.setattr(store.client()._config.retry_policy, "total_retries", 0)
        for request in (
            lambda: store.described(DEFAULT_STORAGE, "az://photos/a.jpg"),
            lambda: store.read(DEFAULT_STORAGE, "az://photos/a.jpg", ""),
            lambda: next(store.listed(DEFAULT_STORAGE, "az://photos/")),
            lambda: store.write(DEFAULT_STORAGE, "az://photos/a.jpg", b"x", None),
            lambda: store.copy(DEFAULT_STORAGE, "az://photos/a.jpg", "az://photos/b.jpg"),
            lambda: store.ask(DEFAULT_STORAGE, "az://photos"),
        ):
            with pytest.raises((StorageError, interface.NoConnection)) as error:
                request()
            assert "sig" not in "".join(f"{cause!r} {cause}\n" for cause in interface.causes(error.value))


def test_a_directory_of_a_hierarchical_namespace_is_no_object(azure, content):
    with object_servers.clients_of(azure):
        markers = store.client().get_container_client(TOP.removeprefix("az://"))
        markers.upload_blob("tree/directory", b"", metadata={"hdi_isfolder": "true"}, overwrite=True)
        markers.upload_blob("tree/directory/empty.jpg", b"", overwrite=True)
        assert [stored.path for stored in store.listed(DEFAULT_STORAGE, f"{TOP}/tree/")] == [
            f"{TOP}/tree/directory/empty.jpg"
        ]


def test_a_malformed_connection_string_is_named():
    with (
        object_servers.clients_of({"AZURE_STORAGE_CONNECTION_STRING": "nonsense"}),
        pytest.raises(ValueError, match="^the variable AZURE_STORAGE_CONNECTION_STRING: "),
    ):
        store.described(DEFAULT_STORAGE, f"{TOP}/a.jpg")
