"""The engine as a process: who may talk to it, how it starts, refuses and ends."""

from __future__ import annotations

import base64
import http.client
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.prisma_engine.postgres import PASSWORD, PostgresServer, free_port

COMMIT = "393aa359c9ad4a4bb28630fb5613f9c281cde053"
HERE = Path(__file__).parent


# A client in a process of its own: port, host and body are its arguments, status and answer its two lines of output.
CLIENT = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[2], int(sys.argv[1]), timeout=40)
connection.request("POST" if sys.argv[3] else "GET", "/" if sys.argv[3] else "/status", sys.argv[3])
reply = connection.getresponse()
print(reply.status, reply.read().decode(), sep="\\n")
"""


def ask(port: int, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
    """Status and text of a reply."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET" if body is None else "POST", path, body, headers)
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


def error_code(answer: tuple[int, str]) -> str:
    code: str = json.loads(answer[1])["errors"][0]["user_facing_error"]["error_code"]
    return code


def is_up(port: int) -> bool:
    try:
        return ask(port, "/status") == (200, '{"status":"ok"}')
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def sleeps(postgres: PostgresServer) -> bool:
    """Whether a query has reached the database and sleeps there."""
    return "PgSleep" in postgres.sql("postgres", "SELECT wait_event FROM pg_stat_activity")


@pytest.fixture
def process_environment(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"PRISMA_DML_PATH": str(HERE / "schema.prisma")}


@pytest.fixture
def engine(
    request: pytest.FixtureRequest, engine_directory: Path, process_environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """An engine started by hand, and its port."""
    request.getfixturevalue("prisma_client")  # for the schema that it leaves in the database
    port = free_port()
    client_options = ["--enable-metrics", "--enable-raw-queries"]
    command = [str(engine_directory / "bin" / "query-engine"), "-p", str(port), *client_options]
    process = subprocess.Popen(command, env=process_environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: is_up(port))
        yield process, port
    finally:
        process.kill()
        process.communicate()


def run_engine(
    engine_directory: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    command = [str(engine_directory / "bin" / "query-engine"), *(arguments or ("-p", str(free_port())))]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def raw(sql: str) -> str:
    query = f'mutation {{ result: queryRaw(query: {json.dumps(sql)}, parameters: "[]") }}'
    return json.dumps({"query": query, "variables": {}})


def test_it_names_the_commit_that_the_client_expects(engine_directory: Path, environment: dict[str, str]) -> None:
    done = run_engine(engine_directory, environment, "--version")

    assert done.stdout == f"query-engine {COMMIT}\n"
    assert environment["PRISMA_EXPECTED_ENGINE_VERSION"] == COMMIT


def test_it_goes_by_the_name_that_litellm_looks_for(engine: tuple[subprocess.Popen[str], int]) -> None:
    process, _port = engine

    assert Path(f"/proc/{process.pid}/comm").read_text() == "query-engine\n"


def test_it_listens_on_the_loopback_interface_only(engine: tuple[subprocess.Popen[str], int]) -> None:
    process, port = engine

    sockets = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]
    ]
    listening = {fields[1] for fields in sockets if fields[3] == "0A" and fields[1].endswith(f":{port:04X}")}

    assert listening <= {f"0100007F:{port:04X}", f"{'0' * 24}01000000:{port:04X}"}
    assert f"0100007F:{port:04X}" in listening


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.usefixtures("prisma_client")
def test_other_users_of_the_host_are_turned_away(engine_directory: Path, process_environment: dict[str, str]) -> None:
    owner, stranger = pwd.getpwnam("daemon"), pwd.getpwnam("nobody")
    port = free_port()
    schema = {"PRISMA_DML": base64.b64encode((HERE / "schema.prisma").read_bytes()).decode(), "PRISMA_DML_PATH": ""}
    command = [str(engine_directory / "bin" / "query-engine"), "-p", str(port)]
    process = subprocess.Popen(command, env=process_environment | schema, user=owner.pw_uid)

    def status_for(user: int, host: str) -> int:
        command = ["/usr/bin/python3", "-c", CLIENT, str(port), host, ""]
        return int(subprocess.run(command, user=user, capture_output=True, check=True).stdout.split()[0])

    try:
        wait_until(lambda: is_up(port))  # as root, who may do anything anyway
        assert status_for(owner.pw_uid, "127.0.0.1") == 200
        assert status_for(stranger.pw_uid, "127.0.0.1") == 403
        assert status_for(stranger.pw_uid, "::1") == 403
    finally:
        process.kill()
        process.wait()


def test_no_secret_shows_in_its_command_line_or_its_errors(
    engine: tuple[subprocess.Popen[str], int],
    engine_directory: Path,
    process_environment: dict[str, str],
    postgres: PostgresServer,
) -> None:
    process, _port = engine
    wrong = postgres.url("test").replace("gateway:p%40ss", "gateway:wr0ng")

    refused = run_engine(engine_directory, process_environment | {"DATABASE_URL": wrong})

    assert PASSWORD.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert refused.returncode == 1
    assert refused.stderr.startswith("prisma-engine: P1000: Authentication failed")
    assert "wr0ng" not in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("postgresql://u:p@127.0.0.1:1/test?connect_timeout=1", "P1001: Can't reach database server at `127.0.0.1:1`"),
        (
            "postgresql://u:p@nowhere.invalid/test?connect_timeout=1",
            "P1001: Can't reach database server at `nowhere.invalid:5432`",
        ),
        ("mysql://u:p@localhost/test", "DATABASE_URL must start with postgresql://, not mysql://"),
        ("not a url with s3cret", "DATABASE_URL is not a URL"),
        (
            "postgresql://u:p@localhost/test?connection_limit=0",
            'connection_limit in DATABASE_URL must be at least 1, not "0"',
        ),
        (
            "postgresql://u:p@localhost/test?pool_timeout=soon",
            'pool_timeout in DATABASE_URL must be a number of seconds, not "soon"',
        ),
        ("", "DATABASE_URL is not set"),
    ],
)
def test_a_start_that_cannot_succeed_ends_with_one_line(
    engine_directory: Path, process_environment: dict[str, str], url: str, line: str
) -> None:
    done = run_engine(engine_directory, process_environment | {"DATABASE_URL": url})

    assert done.returncode == 1
    assert done.stderr.startswith(f"prisma-engine: {line}")
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_database_is_named(
    engine_directory: Path, process_environment: dict[str, str], postgres: PostgresServer
) -> None:
    done = run_engine(engine_directory, process_environment | {"DATABASE_URL": postgres.url("nosuch")})

    server = f"`127.0.0.1:{postgres.port}`"
    assert (
        done.stderr == f"prisma-engine: P1003: Database `nosuch` does not exist on the database server at {server}.\n"
    )


def test_it_waits_for_a_database_that_is_just_starting(
    engine_directory: Path, process_environment: dict[str, str], postgres: PostgresServer
) -> None:
    postgres.stop("fast")
    port = free_port()
    process = subprocess.Popen(
        [str(engine_directory / "bin" / "query-engine"), "-p", str(port)], env=process_environment
    )
    try:
        time.sleep(1.5)
        assert process.poll() is None
        postgres.start()
        wait_until(lambda: is_up(port))
    finally:
        process.kill()
        process.wait()


def test_another_release_of_the_client_is_refused(
    engine_directory: Path, process_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("other") / "engine"
    shutil.copytree(engine_directory, copy)
    package = copy / "node_modules" / "@prisma" / "client" / "package.json"
    package.write_text(package.read_text().replace('"version": "5.17.0"', '"version": "5.18.0"'))

    done = run_engine(copy, process_environment)

    assert done.returncode == 1
    assert done.stderr.startswith("prisma-engine: written for @prisma/client 5.17.0 (engine 393aa359")
    assert "node_modules holds 5.18.0" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_work_in_hand_finish(
    engine: tuple[subprocess.Popen[str], int], postgres: PostgresServer, number: signal.Signals
) -> None:
    process, port = engine
    command = [sys.executable, "-c", CLIENT, str(port), "127.0.0.1", raw("SELECT pg_sleep(1), 7 AS seven")]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: sleeps(postgres))

    process.send_signal(number)

    output, _ = client.communicate(timeout=60)
    answer = json.loads(output.splitlines()[1])
    assert answer["data"]["result"][0]["seven"] == {"prisma__type": "int", "prisma__value": 7}
    assert process.wait(timeout=60) == 0


def test_a_signal_does_not_wait_for_work_that_takes_long(
    engine: tuple[subprocess.Popen[str], int], postgres: PostgresServer
) -> None:
    process, port = engine
    command = [sys.executable, "-c", CLIENT, str(port), "127.0.0.1", raw("SELECT pg_sleep(300)")]
    client = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_until(lambda: sleeps(postgres))

    process.terminate()

    assert process.wait(timeout=60) == 0
    client.wait(timeout=60)
    postgres.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")


@pytest.mark.usefixtures("prisma_client")
def test_it_ends_when_its_parent_is_killed(engine_directory: Path, process_environment: dict[str, str]) -> None:
    port = free_port()
    binary = engine_directory / "bin" / "query-engine"
    script = f"import subprocess, time; subprocess.Popen([{str(binary)!r}, '-p', '{port}']); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", script], env=process_environment)
    wait_until(lambda: is_up(port))

    parent.kill()
    parent.wait()

    wait_until(lambda: not is_up(port))


def test_nonsense_is_answered_and_survived(engine: tuple[subprocess.Popen[str], int]) -> None:
    process, port = engine

    assert error_code(ask(port, "/", "garbage")) == "P2009"
    assert error_code(ask(port, "/", "{}")) == "P2009"
    assert error_code(ask(port, "/", raw("SELECT 1"), **{"X-Transaction-Id": "x"})) == "P2028"
    assert ask(port, "/transaction/x/commit", "")[0] == 404
    assert ask(port, "/transaction/start", "garbage")[0] == 500
    assert ask(port, "/nowhere", "")[0] == 404

    assert process.poll() is None
    assert is_up(port)


def test_the_pool_shows_in_the_metrics(engine: tuple[subprocess.Popen[str], int]) -> None:
    _process, port = engine
    ask(port, "/", raw("SELECT 1"))

    _, document = ask(port, "/metrics?format=json")
    _, text = ask(port, "/metrics?format=prometheus")

    gauges = {gauge["key"]: gauge["value"] for gauge in json.loads(document)["gauges"]}
    assert gauges["prisma_pool_connections_open"] == 1
    assert gauges["prisma_pool_connections_busy"] == 0
    assert "\nprisma_pool_connections_idle 1\n" in text
