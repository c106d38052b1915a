"""A PostgreSQL server for tests: own data directory, own port on the loopback interface, no trace left."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

USER = "gateway"
PASSWORD = "p@ss word/%"  # needs escaping in a URL, as generated ones may
SETTINGS = (
    "listen_addresses=127.0.0.1",
    "fsync=off",
    "max_connections=60",
    "shared_buffers=16MB",
    "timezone=Asia/Kolkata",  # so that nothing is right by accident
)


def find_binaries() -> Path | None:
    """The directory with initdb and pg_ctl: Debian keeps it off PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("pg_ctl")
    return versions[-1].parent if versions else Path(on_path).parent if on_path else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, kw_only=True)
class PostgresServer:
    """A server that can be stopped and started again on the same port."""

    directory: Path
    port: int

    @classmethod
    def create(cls) -> PostgresServer:
        """Makes the data directory; its owner must not be root, so root lends it to Debian's postgres user."""
        server = cls(directory=Path(tempfile.mkdtemp(prefix="postgres-test-")), port=free_port())
        if os.geteuid() == 0:
            postgres = pwd.getpwnam("postgres")
            os.chown(server.directory, postgres.pw_uid, postgres.pw_gid)
        password_file = server.directory / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)
        server.run("initdb", f"--pgdata={server.data}", f"--username={USER}", f"--pwfile={password_file}",
                   "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync")  # fmt: skip
        return server

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def url(self, database: str, *, parameters: str = "") -> str:
        return f"postgresql://{USER}:p%40ss%20word%2F%25@127.0.0.1:{self.port}/{database}?{parameters}"

    def run(self, program: str, *arguments: str) -> None:
        binaries = find_binaries()
        assert binaries is not None
        command = [str(binaries / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def start(self) -> None:
        settings = " ".join(f"-c {setting}" for setting in (*SETTINGS, f"port={self.port}"))
        options = f"--options={settings} -k {self.directory}"
        self.run("pg_ctl", f"--pgdata={self.data}", f"--log={self.directory}/log", "--wait", options, "start")
        if not self.sql("postgres", "SELECT 1 FROM pg_database WHERE datname = 'test'"):
            self.sql("postgres", "CREATE DATABASE test")

    def stop(self, mode: str = "immediate") -> None:
        self.run("pg_ctl", f"--pgdata={self.data}", "--wait", f"--mode={mode}", "stop")

    def sql(self, database: str, statement: str) -> str:
        """Runs a statement with psql, apart from everything under test; returns unaligned text."""
        command = ["psql", "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", statement]
        place = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGDATABASE": database}
        environment = os.environ | place | {"PGUSER": USER, "PGPASSWORD": PASSWORD}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def remove(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.directory)
