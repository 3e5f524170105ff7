"""transforms.storage.stores.s3: whose credentials a request has, and where it goes."""

import contextlib
import json
import sys

import pytest
from botocore.exceptions import ClientError

from tests.helpers import cloud_storage, object_servers
from tests.helpers.emulators import free_port
from transforms.concurrent.in_flight import CONCURRENCY_MAX
from transforms.storage import http_get, reachable
from transforms.storage.context import DEFAULT_STORAGE
from transforms.storage.errors import StorageError
from transforms.storage.stores import s3 as store
from transforms.storage.stores.store import causes

TOP = "s3://of-s3"
OF_AWS = {"AWS_ENDPOINT_URL": None, "AWS_ACCESS_KEY_ID": "AKIAKEY", "AWS_SECRET_ACCESS_KEY": "not-told"}


@pytest.fixture
def content(s3):
    """The content of s3://of-s3/a b.jpg; requests are made with the credentials of the server's owner."""
    with object_servers.clients_of(s3):
        if "of-s3" not in [each["Name"] for each in store.client().list_buckets()["Buckets"]]:
            object_servers.make_bucket(TOP)
        with store.create(DEFAULT_STORAGE, f"{TOP}/a b.jpg") as file:
            file.write(b"content")
        yield b"content"


def read_and_listed():
    """Returns what reading by libcurl and listing by boto3 give."""
    (stored,) = store.listed(DEFAULT_STORAGE, f"{TOP}/a")
    return store.read(DEFAULT_STORAGE, stored.path, stored.version)


NO_KEYS = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"))


def test_a_profile_has_the_keys_the_region_and_the_server(s3, content, tmp_path):
    (tmp_path / "credentials").write_text(
        f"[mine]\naws_access_key_id={s3['AWS_ACCESS_KEY_ID']}\naws_secret_access_key={s3['AWS_SECRET_ACCESS_KEY']}\n"
        "[default]\naws_access_key_id=wrong\naws_secret_access_key=wrong\n"
    )
    (tmp_path / "config").write_text(
        f"[profile mine]\nregion=eu-west-1\nendpoint_url={s3['AWS_ENDPOINT_URL']}\n"
        f"[profile no-region]\naws_access_key_id=wrong\naws_secret_access_key=wrong\n"
    )
    files = {"AWS_SHARED_CREDENTIALS_FILE": tmp_path / "credentials", "AWS_CONFIG_FILE": tmp_path / "config"}
    nothing = NO_KEYS | dict.fromkeys(("AWS_ENDPOINT_URL", "AWS_REGION"))
    region = {"AWS_DEFAULT_REGION": "us-east-1"}  # which versitygw compares
    with object_servers.clients_of(
        nothing | {name: str(path) for name, path in files.items()} | region | {"AWS_PROFILE": "mine"}
    ):
        assert store.endpoint() == s3["AWS_ENDPOINT_URL"]
        assert read_and_listed() == content


def test_without_credentials_public_objects_are_read(content, tmp_path, s3):
    with contextlib.suppress(ClientError):  # versitygw has no such list
        store.client().put_object_acl(Bucket="of-s3", Key="a b.jpg", ACL="public-read")
    nothing = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"), "AWS_CONFIG_FILE": str(tmp_path / "none")}
    with (
        cloud_storage.proxy(s3["AWS_ENDPOINT_URL"]) as between,
        object_servers.clients_of(
            NO_KEYS | nothing | {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": between.url}
        ),
    ):
        try:
            assert read_and_listed() == content
        except PermissionError as error:
            assert str(error).startswith(f"{TOP}/a")
        assert not any(
            "Authorization" in headers or "X-Amz" in url
            for (_, url), headers in zip(between.requests, between.headers, strict=True)
        )


def test_credentials_that_expire_are_renewed(s3, content, tmp_path):
    """As those of a role, which last for an hour."""
    calls = tmp_path / "calls"
    found = {
        "Version": 1,
        "AccessKeyId": s3["AWS_ACCESS_KEY_ID"],
        "SecretAccessKey": s3["AWS_SECRET_ACCESS_KEY"],
    }
    code = (
        "import datetime, json; "
        f"open({str(calls)!r}, 'a').write('x'); "
        "end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5); "
        f"print(json.dumps({json.dumps(found)} | dict(Expiration=end.isoformat())))"
    )
    (tmp_path / "process.py").write_text(code)
    (tmp_path / "config").write_text(f"[default]\ncredential_process={sys.executable} {tmp_path / 'process.py'}\n")
    nothing = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"), "AWS_CONFIG_FILE": str(tmp_path / "config")}
    with object_servers.clients_of(NO_KEYS | nothing):
        assert read_and_listed() == content
        before = len(calls.read_text())
        stored = store.described(DEFAULT_STORAGE, f"{TOP}/a b.jpg")
        assert store.read(DEFAULT_STORAGE, stored.path, stored.version) == content
        assert len(calls.read_text()) > before > 0  # five minutes before they end, they are renewed


def test_a_token_of_a_session_is_sent_and_signed(content, s3):
    with (
        cloud_storage.proxy(s3["AWS_ENDPOINT_URL"]) as between,
        object_servers.clients_of({"AWS_SESSION_TOKEN": "of-the-session", "AWS_ENDPOINT_URL": between.url}),
    ):
        try:
            store.read(DEFAULT_STORAGE, f"{TOP}/a b.jpg", "")
        except OSError as error:
            assert "of-the-session" not in str(error)
        (headers,) = between.headers
        assert headers["X-Amz-Security-Token"] == "of-the-session"
        assert "x-amz-security-token" in headers["Authorization"]


@pytest.mark.parametrize("name", ["./a.jpg", "a/../b.jpg", "a/.", ".."])
def test_a_presigned_url_is_in_no_message(name):
    """Names with such parts are read by one, because libcurl would resolve them."""
    with object_servers.clients_of(OF_AWS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{object_servers.free_port()}"}):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(http_get, "RETRY", http_get.RETRY.with_timeout(0.1))
            with pytest.raises((StorageError, ValueError)) as error:
                store.read(DEFAULT_STORAGE, f"s3://photos/{name}", "")
        seen = "".join(f"{cause!r} {cause}\n" for cause in causes(error.value))
        assert "AKIAKEY" not in seen and "Signature" not in seen and "not-told" not in seen


PLACES = [
    ("photos", {"x-amz-bucket-region": "eu-west-3"}, "https://photos.s3.eu-west-3.amazonaws.com", "eu-west-3"),
    ("my.photos", {"x-amz-bucket-region": "eu-west-3"}, "https://s3.eu-west-3.amazonaws.com/my.photos", "eu-west-3"),
    ("photos", {"x-amz-bucket-region": "cn-north-1"}, "https://photos.s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
    ("photos", {}, "https://photos.s3.ap-south-1.amazonaws.com", "ap-south-1"),
]


@pytest.mark.parametrize(("bucket", "headers", "url", "region"), PLACES)
@pytest.mark.parametrize("is_refused", [False, True])
def test_a_bucket_of_aws_is_asked_in_its_region(monkeypatch, bucket, headers, url, region, is_refused):
    reply = {"ResponseMetadata": {"HTTPHeaders": headers, "HTTPStatusCode": 403 if is_refused else 200}}

    def head_bucket(Bucket):  # noqa: N803
        assert bucket == Bucket
        if is_refused:
            raise ClientError(reply | {"Error": {"Code": "403"}}, "HeadBucket")
        return reply

    with object_servers.clients_of(OF_AWS | {"AWS_REGION": None, "AWS_DEFAULT_REGION": "ap-south-1"}):
        assert store.endpoint() == "https://s3.ap-south-1.amazonaws.com"
        monkeypatch.setattr(store.client(), "head_bucket", head_bucket)
        request = store._request(f"s3://{bucket}/a b/ü.jpg", {})
        assert request.url == f"{url}/a%20b/%C3%BC.jpg"
        assert f"aws:amz:{region}:s3" in request.options.values()


def test_as_many_connections_are_kept_as_requests_may_be_in_flight():
    with object_servers.clients_of(OF_AWS | {"AWS_DEFAULT_REGION": "us-east-1"}):
        assert store.client().meta.config.max_pool_connections == CONCURRENCY_MAX


@pytest.mark.parametrize(
    "name", ["a", "photos/1.jpg", "é", "\ud7ff", "\ue000", "\U00010000", "a\0", "\0", "", "z" * 1024]
)
def test_a_listing_starts_just_before_a_name(name):
    before = store._before(name)
    assert (before < name or name == "") and len(before.encode()) <= 1024
    assert not name or all(each >= name for each in (f"{name}", f"{name}\0") if each > before)


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"AWS_PROFILE": "typo"}, r"profile \(typo\) could not be found"),
        ({"AWS_SECRET_ACCESS_KEY": None}, "Partial credentials"),
        ({"AWS_ENDPOINT_URL": "127.0.0.1:9000"}, "Invalid endpoint: 127.0.0.1:9000"),
    ],
)
def test_settings_that_are_wrong_are_a_line_of_their_own(variables, text):
    clients = object_servers.clients_of(OF_AWS | variables)
    with clients, pytest.raises(ValueError, match=f"AWS_PROFILE.*{text}") as raised:
        store.described(DEFAULT_STORAGE, f"{TOP}/a.jpg")
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_password_of_the_endpoint_is_not_told():
    variables = OF_AWS | {"AWS_ENDPOINT_URL": f"http://user:not-told@127.0.0.1:{free_port()}"}
    with object_servers.clients_of(variables):
        with pytest.raises(OSError, match=r"no connection to http://127\.0\.0\.1:") as refused:
            reachable.check(DEFAULT_STORAGE, TOP)
        assert "not-told" not in str(refused.value)
