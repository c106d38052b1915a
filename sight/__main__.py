"""Command line: `sight gpu --listen ADDRESS:PORT`, `sight gateway --listen ADDRESS:PORT --config FILE`.

`--once` prints the pages instead of serving them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sight.exposition import text_of
from sight.gateway_host import Configuration, ConfigurationRefused, pages_of
from sight.gpus import Gpus, GpusUnreadable
from sight.serve import Page, Unavailable, serve


def main() -> int:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(prog="sight", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("what", choices=["gpu", "gateway"])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--listen", help="ADDRESS:PORT")
    where.add_argument("--once", action="store_true", help="print the pages")
    parser.add_argument("--config", type=Path, help="of a gateway host")
    arguments = parser.parse_args()
    if (arguments.what == "gateway") != (arguments.config is not None):
        parser.error("--config belongs to gateway")
    try:
        pages = _gpu_pages() if arguments.what == "gpu" else pages_of(Configuration.load(arguments.config))
        if arguments.once:
            print("".join(page() for page in pages.values()), end="")
            return 0
        host, _, port = arguments.listen.rpartition(":")
        serve(pages, host=host.strip("[]"), port=int(port)).serve_forever()
    except KeyboardInterrupt:
        return 0
    except (ConfigurationRefused, Unavailable, OSError, ValueError) as error:
        print(f"sight: {error}", file=sys.stderr)
        return 1
    return 0


def _gpu_pages() -> dict[str, Page]:
    gpus = Gpus()

    def metrics() -> str:
        try:
            return text_of(gpus.families())
        except GpusUnreadable as error:
            raise Unavailable(str(error)) from None

    return {"/metrics": metrics}


if __name__ == "__main__":
    sys.exit(main())
