"""Model store: the operator's directory of models, one subdirectory each with a checksum manifest.

Models are placed from here onto hosts and never fetched when an engine starts.
"""

MANIFEST_NAME = "MANIFEST.sha256"
"""In the format of sha256sum: relative paths, sorted, without itself."""


def directory_name(source: str) -> str:
    """The subdirectory of a model: a hub id `owner/name` becomes `owner--name`; a plain name stays."""
    return source.strip("/").replace("/", "--")
