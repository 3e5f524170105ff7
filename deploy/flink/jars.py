"""The jars of a Flink cluster and of Beam's job server: each is fetched once and checked against a pinned SHA-256.

Beam publishes its job server as one jar, `beam-runners-flink-<Flink>-job-server`. A package mirror that lacks this jar
may still have its libraries, so JARS pins each of them. Flink comes from PyPI. Nothing is installed.
"""

import concurrent.futures
import contextlib
import hashlib
import os
import tarfile
import tempfile
import urllib.request
from pathlib import Path

JARS = Path(__file__).with_name("jars.sha256")
MAVEN = "https://repo1.maven.org/maven2"
FLINK = "1.19.2"
FLINK_URL = (
    "https://files.pythonhosted.org/packages/3a/5b/35ef2814340246d0d89a0c56345c8a6fef813cb9615c691fe33dfbc0d2b8/"
    f"apache-flink-libraries-{FLINK}.tar.gz"
)
FLINK_SHA256 = "2bd8577a011cd6673d3e59d45fff79621258ce54e57298d07064c54928b47b17"


def _cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = home / "beam-image-embeddings" / f"flink-{FLINK}"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def distribution() -> Path:
    """Returns the directory of Flink's jars, fetched on first use."""
    directory = _cache() / "lib"
    if not directory.exists():
        archive = _fetched(FLINK_URL, FLINK_SHA256)
        with tempfile.TemporaryDirectory(dir=_cache()) as scratch, tarfile.open(archive) as packed:
            members = [member for member in packed.getmembers() if "/deps/lib/" in member.name and member.isfile()]
            packed.extractall(scratch, members, filter="data")
            with contextlib.suppress(OSError):  # another process was faster
                next(Path(scratch).glob("*/deps/lib")).rename(directory)
        archive.unlink(missing_ok=True)
    return directory


def job_server() -> list[Path]:
    """Returns the jars of Beam's job server, without Flink's own."""
    pinned = [line.split() for line in JARS.read_text().splitlines()]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda pin: _fetched(f"{MAVEN}/{pin[1]}", pin[0]), pinned))


def _fetched(url: str, sha256: str) -> Path:
    """Returns the file of a URL from the cache, after fetching and checking it if the cache lacks it."""
    path = _cache() / url.rpartition("/")[2]
    if path.exists():
        return path
    try:
        with urllib.request.urlopen(url, timeout=300) as reply:  # noqa: S310 - https, pinned here
            content = reply.read()
    except OSError as error:
        raise OSError(f"{url}: {error}") from error
    if (actual := hashlib.sha256(content).hexdigest()) != sha256:
        raise ValueError(f"{url} has the digest {actual}: expected {sha256=}")
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).rename(path)
    return path
