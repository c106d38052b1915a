"""Base images: the bare Debian root that every host starts from, and the warm layer of packages on top of it.

An image is named after a hash of everything that went into it, built beside its place and renamed when whole:
an interrupted build is never used, a changed list makes a new image.
"""

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import addresses, apt, places, preflight
from .errors import LabError
from .proxy import Proxy

BARE = "bare"
WARM = "warm"
_RECIPE = "2"  # raise it when this file changes what an image contains
_NEEDED_BYTES = 3 * 1024**3
_QUIET_TIMERS = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer")
_PROGRESS_SECONDS = 10
# However this process ends, the build and its mounts end with it and cannot write into a later build.
_ENDS_WITH_US = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"),
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a bare and a warm image contain."""

    sources: str
    apt_policy: str
    certificates: tuple[tuple[str, bytes], ...]
    architecture: str
    bare_packages: tuple[str, ...]
    warm_packages: tuple[str, ...]

    def bare_key(self) -> str:
        """Names the bare image."""
        parts = [_RECIPE, self.sources, self.apt_policy, self.architecture, *self.bare_packages]
        digest = hashlib.sha256("\0".join(parts).encode())
        for name, content in self.certificates:
            digest.update(name.encode() + b"\0" + content)
        return digest.hexdigest()[:12]

    def warm_key(self) -> str:
        """Names the warm layer, which fits one bare image only."""
        return hashlib.sha256("\0".join([self.bare_key(), *self.warm_packages]).encode()).hexdigest()[:12]


def machine_recipe() -> Recipe:
    """What this machine would build."""
    certificates = sorted(Path("/usr/local/share/ca-certificates").glob("**/*.crt"))
    return Recipe(
        sources=apt.debian_sources(apt.machine_sources()),
        apt_policy=apt.machine_policy(),
        certificates=tuple((path.name, path.read_bytes()) for path in certificates),
        architecture=os.uname().machine,
        bare_packages=tuple(preflight.packages_in("base-packages.txt")),
        warm_packages=tuple(preflight.packages_in("packages.txt")),
    )


def ensure(variant: str) -> tuple[Path, ...]:
    """The image's overlay layers, top first; built if absent."""
    recipe = machine_recipe()
    bare = places.bases_dir() / f"{BARE}-{recipe.bare_key()}"
    warm = places.bases_dir() / f"{WARM}-{recipe.warm_key()}"
    wanted = (bare,) if variant == BARE else (warm, bare)
    if all(path.is_dir() for path in wanted):
        return wanted
    preflight.require_space(places.bases_dir(), free_bytes=_NEEDED_BYTES)
    with _building_alone(), _local_proxy() as proxy:
        if not bare.is_dir():
            _build_bare(recipe, bare, proxy)
        if variant == WARM and not warm.is_dir():
            _build_warm(recipe, bare, warm, proxy)
    return wanted


def _build_bare(recipe: Recipe, finished: Path, proxy: Proxy) -> None:
    root = finished.with_suffix(".unfinished")
    sources = finished.with_suffix(".sources")
    sources.write_text(recipe.sources)
    argv = [
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--skip=cleanup/apt/lists"),
        *("--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/man/*"),
        f"--include={','.join(recipe.bare_packages)}",
        *(f"--aptopt={line.rstrip(';')}" for line in _apt_settings(recipe)),
        *(apt.RELEASE, str(root), str(sources)),
    ]
    _run("bare Debian 12 image", argv, proxy)
    _configure(root, recipe)
    sources.unlink()
    root.rename(finished)


def _apt_settings(recipe: Recipe) -> list[str]:
    return [*recipe.apt_policy.splitlines(), 'Acquire::Languages "none";']


def _configure(root: Path, recipe: Recipe) -> None:
    """What a host must know to live in a lab, the same for all hosts of all labs."""
    for name, content in recipe.certificates:
        (root / "usr/local/share/ca-certificates" / name).write_bytes(content)
    _chroot(root, "update-ca-certificates")
    for path in (root / "etc/apt").rglob("*"):
        if path.name == "sources.list" or path.parent.name in ("sources.list.d", "apt.conf.d"):
            _remove_generated(path)
    (root / "etc/apt/sources.list.d/debian.sources").write_text(recipe.sources)
    proxy = f"http://{addresses.BRIDGE_ADDRESS}:{addresses.PROXY_PORT}"
    lab = [f'Acquire::http::Proxy "{proxy}";', f'Acquire::https::Proxy "{proxy}";', *_apt_settings(recipe)]
    (root / "etc/apt/apt.conf.d/90lab").write_text("\n".join(lab) + "\n")
    (root / "etc/default/locale").write_text("LANG=C.UTF-8\n")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    for name in ("resolv.conf", "machine-id", "fstab"):
        (root / "etc" / name).write_text("")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    # They would fetch and unpack in the middle of a test.
    _chroot(root, "systemctl", "--quiet", "mask", *_QUIET_TIMERS)


def _remove_generated(path: Path) -> None:
    if path.name in ("sources.list", "99mmdebstrap") or path.parent.name == "sources.list.d":
        path.unlink()


def _chroot(root: Path, *argv: str) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(["chroot", str(root), *argv], env=environment, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise LabError(f"base: {' '.join(argv)}: {done.stderr.strip().splitlines()[-1:]}")


def _build_warm(recipe: Recipe, bare: Path, finished: Path, proxy: Proxy) -> None:
    beside = finished.with_suffix(".unfinished")
    upper, work, root = (beside / name for name in ("upper", "work", "root"))
    for directory in (upper, work, root):
        directory.mkdir(parents=True, mode=0o755)
    argv = [
        str(places.LAB_DIR / "install-packages.sh"),
        *map(str, (bare, upper, work, root)),
        _address(proxy),
        *recipe.warm_packages,
    ]
    _run(f"warm layer ({len(recipe.warm_packages)} packages more)", argv, proxy)
    upper.rename(finished)
    shutil.rmtree(beside)


def _run(what: str, argv: list[str], proxy: Proxy) -> None:
    """Run one long step; a line now and then says how far it is, a failure says its last words."""
    log = places.cache_dir() / "base.log"
    address = _address(proxy)
    environment = {**os.environ, "http_proxy": address, "https_proxy": address, "no_proxy": "", "LC_ALL": "C.UTF-8"}
    started = time.monotonic()
    _say(f"{what}: building; log in {log}")
    with log.open("w") as output:
        process = subprocess.Popen(
            [*_ENDS_WITH_US, *argv], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while True:
                try:
                    code = process.wait(_PROGRESS_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    seconds, megabytes = time.monotonic() - started, proxy.served_bytes / 1e6
                    _say(f"{what}: {seconds:.0f} s, {proxy.package_count} packages, {megabytes:.0f} MB")
        except BaseException:
            process.kill()
            process.wait()
            raise
    if code != 0:
        said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in said if line.startswith(("E:", "Error:"))] or said[-1:] or ["no output"]
        raise LabError(f"{what}: failed with {code}: {errors[0]} (whole log: {log})")
    _say(f"{what}: done in {time.monotonic() - started:.0f} s")


@contextmanager
def _building_alone() -> Iterator[None]:
    """One build at a time per cache; what an interrupted one left is removed."""
    lock = places.bases_dir() / "lock"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another build is under way in this cache; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        for unfinished in places.bases_dir().glob("*.unfinished"):
            shutil.rmtree(unfinished)
        yield


@contextmanager
def _local_proxy() -> Iterator[Proxy]:
    """The lab's proxy on the machine's loopback for the time of a build: builds and hosts share its packages."""
    places.debs_dir().mkdir(parents=True, exist_ok=True)
    allowed = apt.allowed_hosts(apt.machine_sources())
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    with Proxy(listening, cache=places.debs_dir(), allowed=allowed) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()


def _address(proxy: Proxy) -> str:
    return f"http://127.0.0.1:{proxy.socket.getsockname()[1]}"


def _say(message: str) -> None:
    print(f"lab: {message}", file=sys.stderr, flush=True)
