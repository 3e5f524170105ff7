import concurrent.futures

import boto3
import pytest
from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.helpers import tls
from tests.helpers.faults import Faults, fault_proxy

_AT_ONCE = 16
_BODY = b"0123456789" * 100


@pytest.fixture
def client(s3, monkeypatch):
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return boto3.client("s3")


@pytest.fixture
def bucket(client):
    client.create_bucket(Bucket="photos")
    yield "photos"
    for each in client.list_objects_v2(Bucket="photos").get("Contents", ()):
        client.delete_object(Bucket="photos", Key=each["Key"])
    client.delete_bucket(Bucket="photos")


def _successes(write) -> int:
    def tried(number: int) -> bool:
        try:
            write(b"%d" % number)
        except (ClientError, AzureError):
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        return sum(pool.map(tried, range(_AT_ONCE)))


@pytest.mark.parametrize("key", ["a", "b", "c"])
def test_of_writers_to_s3_at_once_one_creates_an_object_and_one_replaces_it(client, bucket, key):
    assert _successes(lambda body: client.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")) == 1
    etag = client.head_object(Bucket=bucket, Key=key)["ETag"]
    assert _successes(lambda body: client.put_object(Bucket=bucket, Key=key, Body=b"x" + body, IfMatch=etag)) == 1


@pytest.mark.parametrize("key", ["a", "b", "c"])
def test_of_writers_to_azure_at_once_one_creates_an_object(azure, key):
    service = BlobServiceClient.from_connection_string(azure["AZURE_STORAGE_CONNECTION_STRING"])
    blob = service.create_container(f"writers-{key}").get_blob_client(key)
    assert _successes(lambda body: blob.upload_blob(body, overwrite=False)) == 1


@pytest.mark.parametrize("fault", ["unavailable", "too_many", "reset", "lost_reply", "truncated"])
def test_a_client_of_s3_recovers_from_faults_of_a_proxy(client, bucket, s3, fault):
    client.put_object(Bucket=bucket, Key="a b+%", Body=_BODY)
    with fault_proxy(s3["AWS_ENDPOINT_URL"], rates=Faults(**{fault: 1}), in_a_row=1, keep_host=True) as proxy:
        through = boto3.client("s3", endpoint_url=proxy.url, config=Config(retries={"mode": "standard"}))
        assert through.head_object(Bucket=bucket, Key="a b+%")["ContentLength"] == len(_BODY)
        if fault == "truncated":  # boto3 sends no request again whose reply has begun
            with pytest.raises(Exception, match="broken|reset"):
                through.get_object(Bucket=bucket, Key="a b+%")["Body"].read()
        assert through.get_object(Bucket=bucket, Key="a b+%")["Body"].read() == _BODY
        assert proxy.faults == {fault: 2}


def test_tls_in_front_of_s3_is_trusted_by_its_authority_alone(client, bucket, s3, tmp_path):
    made = tls.certificates(tmp_path)
    with tls.tls_front(s3["AWS_ENDPOINT_URL"], made) as url:
        through = boto3.client("s3", endpoint_url=url, verify=str(made.authority))
        through.put_object(Bucket=bucket, Key="large", Body=_BODY * 5000)
        assert through.get_object(Bucket=bucket, Key="large")["Body"].read() == _BODY * 5000
        strange = boto3.client("s3", endpoint_url=url, config=Config(retries={"max_attempts": 1}))
        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            strange.head_object(Bucket=bucket, Key="large")
