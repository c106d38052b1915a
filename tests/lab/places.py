"""Where the lab keeps things: run state in the clone, what outlives it in the user's cache."""

import os
from pathlib import Path

LAB_DIR = Path(__file__).resolve().parent
LAB_COMMAND = LAB_DIR / "lab"
REPOSITORY = LAB_DIR.parents[1]


def state_dir() -> Path:
    """The running lab of this clone; LLM_APPLIANCE_LAB_STATE names another."""
    return Path(os.environ.get("LLM_APPLIANCE_LAB_STATE") or REPOSITORY / ".lab").absolute()


def cache_dir() -> Path:
    """Base images, layers and downloaded packages, shared by all clones of this user."""
    own = os.environ.get("LLM_APPLIANCE_CACHE")
    if own:
        return Path(own).absolute() / "lab"
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user).absolute() / "llm-appliance" / "lab"


def debs_dir() -> Path:
    """Debian packages the egress proxy has seen once."""
    return cache_dir() / "debs"


def layers_dir() -> Path:
    """Saved overlay layers, one directory each."""
    return cache_dir() / "layers"


def bases_dir() -> Path:
    """Base images, one directory each, named after what went into them."""
    return cache_dir() / "bases"
