"""Starts one engine on the GPU with random weights, as its own process, and ends: what is wanted is its log.

Runs with the Python that holds vLLM, so it imports nothing else: `python start_engine.py OPTIONS.json`.
"""

import json
import sys
from pathlib import Path

from vllm import LLM

if __name__ == "__main__":
    LLM(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
