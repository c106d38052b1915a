"""The lab: N Debian hosts with real systemd on one machine, for the demo and for the lab tier of the tests.

Standard library only, so that it runs with the machine's own Python before anything is installed.
`tests/lab/README.md` says how it is built and what it cannot do.
"""
