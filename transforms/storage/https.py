"""Images at URLs, by libcurl: from public addresses alone, in bounded bytes, time, redirects and connections. No Beam.

Lists of URLs come from strangers. libcurl asks `_Exchange.open` for each socket, with the address to which it then
connects. So a name cannot lead to a private address, whatever it resolves to at another time.

There are no cookies, and no credentials from URLs, the environment or ~/.netrc. A proxy connects in place of this
process, so its environment's proxy is used only where private hosts are allowed.
"""

import dataclasses
import email.utils
import functools
import re
import socket
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from transforms.storage.context import Storage
from transforms.storage.errors import StorageError
from transforms.storage.libcurl import certificates, pycurl
from transforms.storage.public_addresses import is_public
from transforms.storage.web_hosts import Hosts

# The most bytes of an image at a URL, and of the body of an error.
MAX_BYTES = 64 * 2**20
_MAX_ERROR_BYTES = 2**16

# Seconds to connect. A server that sends less than _LEAST_BYTES a second for _SLOW_SECONDS is given up.
_CONNECT_SECONDS = 10
_SLOW_SECONDS = 20
_LEAST_BYTES = 1000

_MAX_REDIRECTS = 5
_TRIES = 4
_FIRST_DELAY = 0.5
# A server may ask for a pause of any length. After this many seconds, other images try it again.
_MOST_PAUSE = 600

_USER_AGENT = "beam-image-embeddings (reads the images of a list)"

_REDIRECTS = (301, 302, 303, 307, 308)
_MAY_PASS = (408, 429, 500, 502, 503, 504)
_BROKEN = (
    *(pycurl.E_COULDNT_CONNECT, pycurl.E_SSL_CONNECT_ERROR),
    *(pycurl.E_GOT_NOTHING, pycurl.E_PARTIAL_FILE, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR),
)
_UNTRUSTED = (pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CERTPROBLEM, pycurl.E_SSL_ISSUER_ERROR)

_NO_HTTP = (pycurl.E_UNSUPPORTED_PROTOCOL, pycurl.E_FTP_WEIRD_SERVER_REPLY, 100)  # 100: headers that are too large

# A version longer than this is none. Real ones have some 40 characters.
_MAX_VERSION = 256

# The first bytes of images: JPEG, PNG, GIF, WebP and others in RIFF, TIFF, BMP, gzip; AVIF and HEIC have `ftyp` behind.
_IMAGES = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"II+\0", b"BM", b"\x1f\x8b")
_SURROGATE = re.compile("[\udc80-\udcff]")


class WebError(StorageError):
    """What a URL gives in place of an image, where another try gives the same."""

    retryable = False


class BadUrl(WebError):
    """A URL that cannot be asked for: malformed, with a user or password, or of another scheme."""


class PrivateAddress(WebError):
    """A host at an address that is not of the public internet."""


class BadRedirect(WebError):
    """Too many redirects, or one to where none may lead."""


class NoSuchImage(WebError):
    """404 and 410."""


class RefusedByServer(WebError):
    """401, 403, and each other status that another try does not change."""


class NotAnImage(WebError):
    """A page, or another text, in place of an image."""


class TooLarge(WebError):
    """More than MAX_BYTES."""


class BadAnswer(WebError):
    """An answer that is no HTTP."""


class UntrustedServer(WebError):
    """A certificate that is not valid for the host."""


class ServerBusy(StorageError):
    """408, 429 and 5xx, after all retries."""


class UnknownHost(StorageError):
    """A name that does not resolve now."""


class TookTooLong(StorageError):
    """A server that does not answer, or sends too slowly."""


class BrokenConnection(StorageError, ConnectionError):
    """A connection that was refused, reset, or closed before the end of the image."""


class Content(NamedTuple):
    """An image as the server sends it, and its version: the ETag, else Last-Modified, else ""."""

    stored: bytes
    version: str


class _Response(NamedTuple):
    status: int
    headers: Mapping[str, str]
    location: str
    body: bytes


@dataclasses.dataclass(frozen=True)
class _Request:
    """A GET or HEAD. `limit` is that of the body in bytes, 0 for the headers alone; `end` as by `time.monotonic`."""

    method: str
    limit: int
    allow_private: bool
    end: float


class _Target(NamedTuple):
    url: str
    host: str


def read(storage: Storage, url: str, limit: int) -> Content:
    """Returns an image.

    Args:
      storage: see `Storage`.
      url: http:// or https://.
      limit: the most bytes; never more than MAX_BYTES.

    Raises:
      StorageError: why there is none. That of a WebError will not pass.
    """
    response = _asked(url, _request(storage, "GET", min(limit, MAX_BYTES)))
    _check_image(response)
    return Content(response.body, _version(response))


def describe(storage: Storage, url: str) -> str:
    """Returns the version that `read` would return, by a request without a body. Raises as `read`.

    Many servers refuse HEAD. They are asked by GET, and the connection is closed behind the headers.
    """
    try:
        response = _asked(url, _request(storage, "HEAD", 0))
    except (NoSuchImage, RefusedByServer):
        response = _asked(url, _request(storage, "GET", 0))
    return _version(response)


def _request(storage: Storage, method: str, limit: int) -> _Request:
    return _Request(method, limit, storage.allow_private_hosts, time.monotonic() + storage.url_seconds)


def _asked(url: str, request: _Request) -> _Response:
    """Returns the response of status 200 to which a URL leads."""
    target = _target(url)
    for _ in range(_MAX_REDIRECTS + 1):
        response = _patiently(target, request)
        if response.status not in _REDIRECTS:
            _check_status(response)
            return response
        target = _redirected(target, response.location)
    raise BadRedirect(f"more than {_MAX_REDIRECTS} redirects")


def _target(url: str) -> _Target:
    try:
        parts = parse_url(_SURROGATE.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", url))
    except LocationParseError as error:
        raise BadUrl("a malformed URL: expected https://HOST/PATH") from error
    if parts.scheme not in ("http", "https") or not parts.host:
        raise BadUrl(f"a URL of the scheme {parts.scheme} with the host {parts.host!r}: expected https://HOST/PATH")
    if "@" in (parts.netloc or "") or parts.auth is not None:
        raise BadUrl("a URL with a user or password: expected https://HOST/PATH")
    return _Target(parts._replace(fragment=None).url, f"{parts.scheme}://{parts.netloc}")


def _redirected(target: _Target, location: str) -> _Target:
    if not location:
        raise BadRedirect("a redirect without a Location")
    try:
        to = _target(location)
    except BadUrl as error:
        raise BadRedirect(f"a redirect to {error}") from error
    if target.url.startswith("https:") and not to.url.startswith("https:"):
        raise BadRedirect("a redirect from https to http: expected https")
    return to


def _patiently(target: _Target, request: _Request) -> _Response:
    """Returns the response to a request, which is tried again if it may pass and there is time."""
    delay = _FIRST_DELAY
    for tries_left in range(_TRIES - 1, -1, -1):
        try:
            response = _once(target, request)
        except ConnectionError:
            if not tries_left or time.monotonic() + delay > request.end:
                raise
        else:
            if response.status not in _MAY_PASS:
                return response
            asked_for = _retry_after(response)
            if asked_for:
                _hosts(request.allow_private).pause(target.host, min(asked_for, _MOST_PAUSE))
            if not tries_left or time.monotonic() + max(delay, asked_for) > request.end:
                return response
            if asked_for:  # the next turn comes after the pause
                continue
        time.sleep(delay)
        delay *= 2
    raise AssertionError("the last try returns or raises")


def _retry_after(response: _Response) -> float:
    """Returns the seconds for which a server asks, as a number or a date (RFC 9110, section 10.2.3); 0 for none."""
    text = response.headers.get("retry-after", "")
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


class _Exchange:
    """A handle of libcurl, and what its callbacks note of the request that it makes."""

    def __init__(self, allow_private: bool):
        self._allow_private = allow_private
        self._curl = pycurl.Curl()
        for option, value in {
            pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
            pycurl.FOLLOWLOCATION: 0,
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
            pycurl.USERAGENT: _USER_AGENT,
            pycurl.HTTPHEADER: ["Accept: image/*,*/*;q=0.5", "Accept-Encoding: identity"],
            pycurl.CAINFO: certificates(),
            pycurl.NOSIGNAL: 1,
            pycurl.CONNECTTIMEOUT: _CONNECT_SECONDS,
            pycurl.LOW_SPEED_LIMIT: _LEAST_BYTES,
            pycurl.LOW_SPEED_TIME: _SLOW_SECONDS,
            pycurl.BUFFERSIZE: 2**17,
            pycurl.MAXCONNECTS: 1,
            pycurl.OPENSOCKETFUNCTION: self._open,
            pycurl.HEADERFUNCTION: self._header,
            pycurl.WRITEFUNCTION: self._write,
        }.items():
            self._curl.setopt(option, value)
        if not allow_private:
            self._curl.setopt(pycurl.PROXY, "")  # none, whatever the environment says

    def perform(self, target: _Target, request: _Request) -> _Response:
        self._refused, self._is_over = "", False
        self._lines: list[bytes] = []
        self._chunks: list[bytes] = []
        self._room = self._limit = request.limit
        curl = self._curl
        curl.setopt(pycurl.URL, target.url)
        curl.setopt(pycurl.HTTPGET, 1)
        curl.setopt(pycurl.NOBODY, request.method == "HEAD")
        curl.setopt(pycurl.MAXFILESIZE_LARGE, request.limit)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int((request.end - time.monotonic()) * 1000)))
        try:
            curl.perform()
        except pycurl.error as error:
            code, text = error.args[:2]
            if code == pycurl.E_FILESIZE_EXCEEDED or (self._is_over and self._is_image and request.limit):
                raise TooLarge(f"expected an image of at most {request.limit} bytes") from error
            if not self._is_over:
                raise _error(code, text, target, self._refused) from error
        headers = {}
        for line in self._lines[1:]:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        location = curl.getinfo(pycurl.REDIRECT_URL) or ""
        return _Response(curl.getinfo(pycurl.RESPONSE_CODE), headers, location, b"".join(self._chunks))

    def _open(self, purpose: int, address: Any) -> Any:
        family, kind, protocol, (ip, *_) = address
        if not self._allow_private and not is_public(ip):
            self._refused = ip
            return pycurl.SOCKET_BAD
        return socket.socket(family, kind, protocol)

    def _header(self, line: bytes) -> None:
        if line.startswith(b"HTTP/"):  # also after the headers of 100 Continue
            self._lines.clear()
            self._is_image = line.split()[1:2] == [b"200"]
            self._room = self._limit if self._is_image else _MAX_ERROR_BYTES
        self._lines.append(line)

    def _write(self, chunk: bytes) -> int | None:
        self._chunks.append(chunk)
        self._room -= len(chunk)
        self._is_over = self._room < 0
        return -1 if self._is_over else None


@functools.cache
def _hosts(allow_private: bool) -> Hosts[_Exchange]:
    return Hosts(functools.partial(_Exchange, allow_private))


def _once(target: _Target, request: _Request) -> _Response:
    hosts = _hosts(request.allow_private)
    with hosts.turn(target.host, request.end) as exchange:
        start = time.monotonic()
        try:
            response = exchange.perform(target, request)
        except (TookTooLong, UnknownHost) as error:
            # A request that was in a hurry tells nothing about the host.
            if isinstance(error, UnknownHost) or time.monotonic() - start > 0.9 * min(_CONNECT_SECONDS, _SLOW_SECONDS):
                hosts.unanswered(target.host)
            raise
    hosts.answered(target.host)
    return response


def _error(code: int, text: str, target: _Target, refused: str) -> StorageError:
    """Returns the error for one of libcurl's, in its own words."""
    if refused and code == pycurl.E_COULDNT_CONNECT:
        return PrivateAddress(
            f"{target.host} is at {refused}, which is no public address; --allow_private_hosts takes such hosts"
        )
    text = text or f"error {code} of libcurl"
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return TookTooLong(text)
    if code == pycurl.E_COULDNT_RESOLVE_HOST:
        return UnknownHost(text)
    if code in _UNTRUSTED:
        return UntrustedServer(text)
    if code == pycurl.E_URL_MALFORMAT:
        return BadUrl(f"a malformed URL: {text}")
    if code in _NO_HTTP:
        return BadAnswer(text)
    if code in _BROKEN or code == pycurl.E_SSL_CONNECT_ERROR:
        return BrokenConnection(text)
    return StorageError(text)


def _check_status(response: _Response) -> None:
    status = response.status
    if status == 200:
        return
    if status in (404, 410):
        raise NoSuchImage(f"HTTP status {status}")
    if status in _MAY_PASS or (status >= 500 and status != 501):
        raise ServerBusy(f"HTTP status {status}")
    raise RefusedByServer(f"HTTP status {status}: expected 200")


def _check_image(response: _Response) -> None:
    """Raises NotAnImage for a text. The content decides, and not what the server calls it."""
    front = response.body[:512]
    text = front.removeprefix(b"\xef\xbb\xbf").lstrip()
    kind = response.headers.get("content-type", "")
    is_image = front.startswith(_IMAGES) or front[4:8] == b"ftyp"
    if text[:1] in (b"<", b"{") or (kind.startswith("text/") and front and not is_image):
        raise NotAnImage(f"{kind[:80] or 'no Content-Type'}, beginning with {front[:20]!r}: expected an image")


def _version(response: _Response) -> str:
    for name in ("etag", "last-modified"):
        version = response.headers.get(name, "")
        if 0 < len(version) <= _MAX_VERSION and version.isprintable():
            return version
    return ""
