"""The lab's command line: parse, call, print, exit.

What a verb needs is imported when it runs: ssh starts `dial` for every connection, so it must be quick.
"""

import argparse
import errno
import sys
from collections.abc import Callable, Sequence

from . import places, preflight
from .errors import LabError, UsageError

Handler = Callable[[argparse.Namespace], None]

_DESCRIPTION = """Debian 12 hosts with real systemd on this machine, named h1, h2, ... at 10.77.0.11, .12, ...
They can be killed, cut off and rebooted. Everything lives in namespaces of its own; `down` leaves nothing."""


def _base(options: argparse.Namespace) -> None:
    from . import base

    preflight.require_tools()
    for path in base.ensure(base.BARE if options.bare else base.WARM):
        print(path)


def _up(options: argparse.Namespace) -> None:
    import time

    from . import lifecycle, spec

    preflight.require_tools()
    state = places.state_dir()
    lifecycle.refuse_second(state)
    lab = lifecycle.plan_lab(
        options.count,
        bare=options.bare,
        layer_wishes=[spec.parse_layer(text) for text in options.layer],
        binds=[spec.parse_bind(text) for text in options.bind],
    )
    started = time.monotonic()
    lifecycle.up(state, lab)
    hosts = ", ".join(f"{host.name} {host.address}" for host in lab.hosts)
    _say(f"{len(lab.hosts)} running after {time.monotonic() - started:.1f} s: {hosts}")


def _down(_: argparse.Namespace) -> None:
    from . import lifecycle

    lifecycle.down(places.state_dir())


def _status(options: argparse.Namespace) -> None:
    from . import status

    print(status.as_json(places.state_dir()) if options.json else status.as_text(places.state_dir()))


def _layers(options: argparse.Namespace) -> None:
    import json
    from dataclasses import asdict

    from . import layers

    if options.json:
        print(json.dumps([asdict(layer) for layer in layers.saved()]))
        return
    for layer in layers.saved():
        print(f"{layer.name}  {layer.saved_at}")


def _save_layer(options: argparse.Namespace) -> None:
    from . import lifecycle

    lifecycle.save_layer(places.state_dir(), options.host, options.name, options.paths)


def _life(verb: str) -> Handler:
    def handle(options: argparse.Namespace) -> None:
        from . import lifecycle

        actions: dict[str, Callable[..., None]] = {
            "wait": lifecycle.wait_running,
            "kill": lifecycle.kill,
            "off": lifecycle.power_off,
            "start": lifecycle.start,
            "reboot": lifecycle.reboot,
        }
        actions[verb](places.state_dir(), options.host)

    return handle


def _network(verb: str, *names: str) -> Handler:
    def handle(options: argparse.Namespace) -> None:
        from . import control

        control.ask(places.state_dir(), verb, *(getattr(options, name) for name in names))

    return handle


def _forward(options: argparse.Namespace) -> None:
    from . import addresses, control

    address, _ = addresses.parse_endpoint(options.listen)
    if address != "::1" and not address.startswith("127."):
        raise UsageError(f"forward listens on this machine's loopback only, not on {address}")
    print(control.ask(places.state_dir(), "forward", options.listen, options.target))


def _exec(options: argparse.Namespace) -> None:
    from . import enter

    enter.execute(places.state_dir(), options.host, _command(options))


def _net(options: argparse.Namespace) -> None:
    from . import enter

    enter.execute_in_network(places.state_dir(), _command(options))


def _dial(options: argparse.Namespace) -> None:
    from . import enter

    enter.dial(places.state_dir(), options.host, options.port)


def _ssh(options: argparse.Namespace) -> None:
    from . import enter

    enter.secure_shell(places.state_dir(), options.host, options.command)


def _command(options: argparse.Namespace) -> list[str]:
    command: list[str] = options.command
    if not command:
        raise UsageError("there is no command; write it after --")
    return command


def parser() -> argparse.ArgumentParser:
    """Every verb with its arguments."""
    top = argparse.ArgumentParser(prog="lab", description=_DESCRIPTION)
    verbs = top.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, handler: Handler, text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(handler=handler)
        return added

    added = verb("base", _base, "build the image hosts start from, if absent, and print its layers")
    _choose_image(added)
    added = verb("up", _up, "start a lab of N hosts and wait until all run")
    added.add_argument("count", metavar="N", type=int, help="how many hosts")
    _choose_image(added)
    added.add_argument(
        "--layer",
        action="append",
        default=[],
        metavar="HOST=NAME",
        help="put a saved layer under a host (or all=NAME); the first one given is on top",
    )
    added.add_argument(
        "--bind",
        action="append",
        default=[],
        metavar="HOST=SOURCE:TARGET",
        help="show a directory of this machine read-only in a host (or all=...)",
    )
    verb("down", _down, "end the lab and remove everything of it; also after a crash")
    added = verb("status", _status, "say what is up")
    added.add_argument("--json", action="store_true", help="for programs")
    for name, text in (
        ("wait", "wait until a host has finished booting"),
        ("kill", "cut a host's power"),
        ("off", "shut a host down in order"),
        ("start", "switch a host on; `wait` waits until it runs"),
        ("reboot", "reboot a host and wait until it runs"),
    ):
        verb(name, _life(name), text).add_argument("host", metavar="HOST")
    for name, text in (("cut", "let a host's network cable lose everything"), ("heal", "repair a cut host's cable")):
        verb(name, _network(name, "host"), text).add_argument("host", metavar="HOST")
    added = verb("partition", _network("partition", "one", "other"), "let two hosts lose each other only")
    added.add_argument("one", metavar="HOST")
    added.add_argument("other", metavar="HOST")
    verb("join", _network("join"), "undo all partitions")
    added = verb("exec", _exec, "run a command in a host as its root, with stdin, stdout and exit code")
    added.add_argument("host", metavar="HOST")
    added.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    added = verb("net", _net, "run a command of this machine inside the lab's network")
    added.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    added = verb("ssh", _ssh, "log in to a host, or run a command there, through ssh with strict host keys")
    added.add_argument("host", metavar="HOST")
    added.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    added = verb("dial", _dial, "connect stdin and stdout with a TCP port in the lab (ssh's ProxyCommand)")
    added.add_argument("host", metavar="HOST")
    added.add_argument("port", metavar="PORT", type=int)
    added = verb("forward", _forward, "lead a port of this machine's loopback into the lab, until down")
    added.add_argument("listen", metavar="LISTEN:PORT", help="for example 127.0.0.1:4000; port 0 takes a free one")
    added.add_argument("target", metavar="HOST:PORT", help="for example h1:4000")
    added = verb("save-layer", _save_layer, "keep what a host wrote below PATHs as a layer for later labs")
    added.add_argument("host", metavar="HOST")
    added.add_argument("name", metavar="NAME")
    added.add_argument("paths", nargs="+", metavar="PATH")
    added = verb("layers", _layers, "list the saved layers")
    added.add_argument("--json", action="store_true", help="for programs")
    return top


def _choose_image(to: argparse.ArgumentParser) -> None:
    images = to.add_mutually_exclusive_group()
    images.add_argument("--bare", action="store_true", help="a small Debian 12 server and nothing more")
    images.add_argument("--warm", action="store_true", help="bare plus tests/lab/packages.txt, services off (default)")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """What follows the first -- belongs to the command to be run, whatever it looks like."""
    if "--" not in argv:
        return parser().parse_args(argv)
    at = argv.index("--")
    options = parser().parse_args(argv[:at])
    if not hasattr(options, "command"):
        raise UsageError(f"{argv[0]} runs no command, so nothing can follow --")
    options.command = [*options.command, *argv[at + 1 :]]
    return options


def main(argv: Sequence[str]) -> int:
    """Run one command; a problem is one line on stderr."""
    if argv[:1] == ["internal"]:
        from . import internal

        internal.main(argv[1:])
        return 0
    try:
        options = parse(argv)
        preflight.refuse_elsewhere()
        handler: Handler = options.handler
        handler(options)
    except LabError as error:
        _say(str(error))
        return error.exit_code
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _say(f"disk full: {error.filename or places.state_dir()}; free some space and run the same command again")
            return 1
        raise
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    return 0


def _say(message: str) -> None:
    print(f"lab: {message}", file=sys.stderr, flush=True)
