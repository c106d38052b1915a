"""Up, down and the life of single hosts, as seen from outside: ask labd, then wait until it is so."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import addresses, base, control, enter, furnish, layers, places, preflight
from .cgroups import LABD, TOOLS, TOOLS_FILE, Subtree
from .errors import LabError, UsageError
from .spec import ALL_HOSTS, FILE_NAME, Bind, HostSpec, LabSpec, for_host

_BOOT_SECONDS = 180
_POWER_OFF_SECONDS = 180
_POLL_SECONDS = 0.1
_HOST_BYTES = 1024**3
_OWN_DIRECTORIES = ("hosts", "cp")  # cp: Ansible's shared connections, see README.md
_OWN_FILES = (
    *(FILE_NAME, "labd.log", control.SOCKET_NAME, "cgroup-mounts", TOOLS_FILE),
    *(furnish.KEY, f"{furnish.KEY}.pub", furnish.KNOWN_HOSTS, furnish.SSH_CONFIG),
)


def plan_lab(count: int, *, bare: bool, layer_wishes: list[tuple[str, str]], binds: list[tuple[str, Bind]]) -> LabSpec:
    """Turn the wishes of `up` into a lab, or say which wish cannot be met."""
    if not 1 <= count <= addresses.MAX_HOSTS:
        raise UsageError(f"up takes 1 to {addresses.MAX_HOSTS} hosts, not {count}")
    names = [addresses.host_name(number) for number in range(1, count + 1)]
    for who in [who for who, _ in layer_wishes] + [who for who, _ in binds]:
        if who not in (*names, ALL_HOSTS):
            raise UsageError(f"there will be no host '{who}': up {count} makes {', '.join(names)}")
    for _, bind in binds:
        if not Path(bind.source).is_dir():
            raise LabError(f"--bind: {bind.source} is not a directory")
    chosen = [(who, str(layers.find(name))) for who, name in layer_wishes]
    images = [str(path) for path in base.ensure(base.BARE if bare else base.WARM)]
    spec = LabSpec(
        hosts=tuple(
            HostSpec(
                name=name,
                address=addresses.host_address(name),
                lower=(*(path for who, path in chosen if who in (name, ALL_HOSTS)), *images),
                binds=for_host(name, binds),
            )
            for name in names
        )
    )
    if any(character in path for host in spec.hosts for path in host.lower for character in ":,"):
        raise LabError(f"the cache directory {places.cache_dir()} has ':' or ',' in its name; overlay cannot mount it")
    return spec


def up(state: Path, spec: LabSpec) -> None:
    """Start a lab and wait until every host runs; a lab that does not come up is taken down again."""
    preflight.require_space(state, free_bytes=_HOST_BYTES)
    with _starting_alone(state):
        _up(state, spec)


@contextmanager
def _starting_alone(state: Path) -> Iterator[None]:
    directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LabError(f"another `up` is under way in {state}") from None
    else:
        yield
    finally:
        os.close(directory)


def _up(state: Path, spec: LabSpec) -> None:
    refuse_second(state)
    _clean(state)
    state.chmod(0o700)
    spec.write(state)
    furnish.furnish(state, spec)
    try:
        _start_labd(state)
        for host in spec.hosts:
            control.ask(state, "start", host.name)
        for host in spec.hosts:
            wait_running(state, host.name)
    except BaseException:
        log = state / "labd.log"
        said = log.read_text().strip().splitlines()[-3:] if log.exists() else []
        down(state)
        for line in said:
            print(f"lab: labd.log: {line}", file=sys.stderr)
        raise


def refuse_second(state: Path) -> None:
    """Stop when this state directory already has a running lab."""
    if control.labd_pid(state) is not None:
        raise LabError(f"a lab is up already in {state}; take it down with: tests/lab/lab down")


def _start_labd(state: Path) -> None:
    subtree = Subtree(state)
    subtree.create(TOOLS)
    (state / TOOLS_FILE).write_text("".join(f"{path}\n" for path in subtree.tracking_dirs(TOOLS)))
    groups = subtree.create(LABD)
    argv = [
        *(str(places.LAB_DIR / "join-groups.sh"), *map(str, groups), "--"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"),
        *(sys.executable, "-I", str(places.LAB_COMMAND), "internal", "labd", str(state)),
    ]
    with (state / "labd.log").open("w") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + _BOOT_SECONDS
    while control.labd_pid(state) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise LabError("labd did not start")
        time.sleep(0.02)


def down(state: Path) -> None:
    """End everything that belongs to this lab, whatever state it is in, and remove its files."""
    _clean(state)
    if state.is_dir() and not any(state.iterdir()):
        state.rmdir()


def _clean(state: Path) -> None:
    Subtree(state).end()
    for name in _OWN_FILES:
        (state / name).unlink(missing_ok=True)
    for name in _OWN_DIRECTORIES:
        if (state / name).is_dir():
            shutil.rmtree(state / name)


def wait_running(state: Path, host: str) -> None:
    """Until systemd has finished booting. A failed unit is said, not hidden."""
    deadline = time.monotonic() + _BOOT_SECONDS
    said = ""
    while time.monotonic() < deadline:
        _refuse_off(state, host)
        try:
            argv = enter.command_in_host(state, host, ["systemctl", "is-system-running", "--wait"])
            said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()
        except LabError:
            said = "not there yet"
        if said == "running":
            return
        if said == "degraded":
            _tell_failed_units(state, host)
            return
        time.sleep(_POLL_SECONDS)
    raise LabError(f"{host} did not finish booting in {_BOOT_SECONDS} s (systemd says '{said}')")


def _refuse_off(state: Path, host: str) -> None:
    known = control.lab_state(state).host(host)
    if not known.running:
        raise LabError(f"{host} is off ({known.last_end}); start it with: tests/lab/lab start {host}")


def _tell_failed_units(state: Path, host: str) -> None:
    argv = enter.command_in_host(state, host, ["systemctl", "list-units", "--failed", "--plain", "--no-legend"])
    units = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()
    print(f"lab: {host} runs, with failed units: {', '.join(unit.split()[0] for unit in units)}", file=sys.stderr)


def start(state: Path, host: str) -> None:
    """Press the power button of a host that is off."""
    control.ask(state, "start", host)


def kill(state: Path, host: str) -> None:
    """Power loss: nothing in the host gets to know."""
    control.ask(state, "kill", host)
    _wait_off(state, host)


def power_off(state: Path, host: str) -> None:
    """An orderly shutdown."""
    wait_running(state, host)
    control.ask(state, "power-off", host)
    _wait_off(state, host)


def _wait_off(state: Path, host: str) -> None:
    deadline = time.monotonic() + _POWER_OFF_SECONDS
    while control.lab_state(state).host(host).running:
        if time.monotonic() > deadline:
            advice = f"`tests/lab/lab kill {host}` cuts its power"
            raise LabError(f"{host} did not power off in {_POWER_OFF_SECONDS} s; {advice}")
        time.sleep(_POLL_SECONDS / 2)


def reboot(state: Path, host: str) -> None:
    """An orderly reboot, until the host runs again."""
    boots = control.lab_state(state).host(host).boot_count
    argv = enter.command_in_host(state, host, ["systemctl", "reboot"])
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    deadline = time.monotonic() + _POWER_OFF_SECONDS
    while control.lab_state(state).host(host).boot_count == boots:
        if time.monotonic() > deadline:
            raise LabError(f"{host} did not go down for its reboot in {_POWER_OFF_SECONDS} s")
        time.sleep(_POLL_SECONDS / 2)
    wait_running(state, host)


def save_layer(state: Path, host: str, name: str, paths: list[str]) -> None:
    """Keep what a host wrote below these paths."""
    LabSpec.read(state).host(host)
    layers.save(state / "hosts" / host / "upper", host, name, paths)
