"""TLS in front of a server for tests, with an authority of the test's own."""

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_BLOCK = 1 << 16


class Certificates(NamedTuple):
    """PEM files: of the authority that clients trust, and of the server that shows `certificate`.

    Clients trust `authority` by AWS_CA_BUNDLE (boto3), REQUESTS_CA_BUNDLE (requests), SSL_CERT_FILE (OpenSSL, rustls),
    pycurl's CAINFO, and obstore's `client_options={"root_certificate": authority.read_bytes()}`.
    """

    authority: Path
    certificate: Path
    key: Path


def certificates(directory: Path, *names: str) -> Certificates:
    """Makes an authority and a certificate of 127.0.0.1, localhost and the further names, valid for a day."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]

    # Not one certificate that signs itself: rustls refuses an authority that is the server too.
    def certificate(of: int, name: str, issuer: str, *extensions: x509.ExtensionType) -> bytes:
        subjects = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer)]
        builder = x509.CertificateBuilder(subjects[1], subjects[0], keys[of].public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    hosts = x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *map(x509.DNSName, ("localhost", *names))]
    )
    made = Certificates(directory / "authority.pem", directory / "certificate.pem", directory / "key.pem")
    made.authority.write_bytes(certificate(0, "authority", "authority", x509.BasicConstraints(True, None)))
    made.certificate.write_bytes(certificate(1, "server", "authority", x509.BasicConstraints(False, None), hosts))
    made.key.write_bytes(
        keys[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made


@contextlib.contextmanager
def tls_front(target: str, made: Certificates) -> Iterator[str]:
    """Serves `http://HOST:PORT` as https on a free port of 127.0.0.1; yields the URL.

    It passes bytes on and reads none, so the server sees the `Host` of the front.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    host, port = urllib.parse.urlsplit(target).netloc.split(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            while block := await reader.read(_BLOCK):
                writer.write(block)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(host, port)
        await asyncio.gather(pump(reader, to_server), pump(from_server, writer))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="tls-front")
    thread.start()
    try:
        starting = asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, backlog=128)
        server = asyncio.run_coroutine_threadsafe(starting, loop).result()
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(_end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
