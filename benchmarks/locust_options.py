"""Locust options: the load on Locust's command line and web page. `--host` is the base URL, as OpenAI's clients take
it.
"""

from pathlib import Path
from typing import Any

from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from benchmarks.errors import BadLoad
from benchmarks.load import Load
from benchmarks.metrics import Objective
from sizing.documents import read_structured_file


def add_options(parser: LocustArgumentParser) -> None:
    """Adds ours to Locust's."""
    group = parser.add_argument_group("Load", "What is sent, and when")

    def add(*names: str, **about: Any) -> None:
        action: Any = group.add_argument(*names, **about)
        # What the parser's own `add_argument` sets, and a group's does not: without it the web page has no field.
        action.include_in_web_ui = True
        action.is_secret = action.is_required = action.is_multiple = False

    add(
        "--load",
        default="",
        metavar="FILE",
        help="a whole Load document (YAML or JSON); the options below then do not count",
    )
    add("--model-name", default="null", help="model that requests name")
    add("--arrivals", default="poisson", choices=["poisson", "constant", "ramp", "trace"], help="kind of arrivals")
    add("--rate", type=float, default=1.0, help="requests/s over all processes; of a ramp, at its end")
    add("--rate-from", type=float, default=0.0, help="requests/s at the start of a ramp")
    add("--duration", type=float, default=60.0, help="seconds during which requests start")
    add("--trace", default="", metavar="FILE", help="JSON lines with timestamp (ms), input_length, output_length")
    add("--language", default="en", choices=["en", "ko", "mixed"], help="of the prompts")
    add("--prompt-tokens", type=int, default=128, help="mean length of prompts")
    add("--output-tokens", type=int, default=64, help="mean length asked for")
    add("--spread", type=float, default=0.3, help="standard deviation of both lengths as a share of the mean")
    add("--shared-prefix", type=float, default=0.0, help="share of each prompt that is common to all (0..1)")
    add("--turns", type=int, default=1, help="questions per conversation")
    add(
        "--patience", type=float, default=600.0, help="seconds after which a client gives up an answer not over by then"
    )
    add("--seed", type=int, default=1, help="same seed, same load")
    add("--keep-bodies", action="store_true", help="keep every stream's text, for the history checker")
    add("--key-variable", default="LLM_API_KEY", help="environment variable that holds the API key")
    add("--ca-file", default="", metavar="FILE", help="certificate authority of the server")
    add("--histories", default="histories", metavar="DIR", help="where raw histories go")
    add(
        "--no-calibrate", dest="calibrate", action="store_false", help="do not measure first what this machine can hold"
    )
    add("--slo-ttft-ms", type=float, default=0.0, help="a good request's time to first token; 0 = no bound")
    add("--slo-tpot-ms", type=float, default=0.0, help="a good request's time per output token; 0 = no bound")
    add("--slo-e2e-ms", type=float, default=0.0, help="a good request's whole time; 0 = no bound")


def load_from(environment: Environment) -> Load:
    """The Load that the options (or the web page's form) describe; raises one line if they describe none."""
    options: Any = environment.parsed_options
    if options.load:
        return Load.parse(read_structured_file(Path(options.load)), origin=options.load)
    if not environment.host:
        raise BadLoad("name the server: --host http://HOST:PORT/v1")
    lengths = {"spread_ratio": options.spread}
    return Load.parse(
        {
            "target": {
                "base_url": environment.host,
                "model": options.model_name,
                "key_variable": options.key_variable,
                "ca_file": options.ca_file or None,
            },
            "arrivals": {
                "kind": options.arrivals,
                "rate_per_second": options.rate,
                "ramp_from_per_second": options.rate_from,
                "duration_seconds": options.duration,
                "trace": options.trace or None,
            },
            "workload": {
                "language": options.language,
                "prompt": {"mean_tokens": options.prompt_tokens, **lengths},
                "output": {"mean_tokens": options.output_tokens, **lengths},
                "shared_prefix_ratio": options.shared_prefix,
                "turns": options.turns,
            },
            "patience": {"total_seconds": options.patience},
            "seed": options.seed,
            "keep_bodies": options.keep_bodies,
        },
        origin="options",
    )


def objective_from(environment: Environment) -> Objective | None:
    """The bounds of a good request, or None if no option names one."""
    options: Any = environment.parsed_options
    bounds = [value or None for value in (options.slo_ttft_ms, options.slo_tpot_ms, options.slo_e2e_ms)]
    return Objective(ttft_ms=bounds[0], tpot_ms=bounds[1], e2e_ms=bounds[2]) if any(bounds) else None
