"""`python -m sizing` is `llm-size`, also where the package is not installed."""

from sizing.cli import main

main()
