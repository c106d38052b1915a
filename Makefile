# The commands of the README. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
VENV := .venv/bin
ANSIBLE_PLAYBOOKS := site.yml playbooks
export UV_SYSTEM_CERTS ?= 1

.PHONY: help setup demo demo-ha demo-full demo-down test lint unit lab-tier live accept lock artifacts vault keys schema clean

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv with the locked dependencies
	@tools/bootstrap.sh

demo: setup ## Plan, deploy and verify on three real systemd hosts on this machine
	@$(VENV)/python -m tools.demo up

demo-ha: setup ## The same on five hosts: two gateways, every model on two engines
	@$(VENV)/python -m tools.demo up --site lab-ha

demo-full: setup ## The five hosts with everything on: guardrails, declared access, alerts, monitoring
	@$(VENV)/python -m tools.demo up --site lab-full

demo-down: setup ## Take the demo's hosts down; leaves nothing running
	@$(VENV)/python -m tools.demo down

test: setup ## Every test that needs no GPU; without root all but the lab tier
	@$(VENV)/python -m tools.run_tests

lint: setup ## Linters and type checks
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
	@$(VENV)/yamllint --strict .
	@$(VENV)/ansible-lint --profile production --offline $(ANSIBLE_PLAYBOOKS) roles

unit: setup ## The required tier: no root, no network, no GPU
	@$(VENV)/python -m pytest -m "not lab and not live"

lab-tier: setup ## The lab tier: real systemd hosts, needs root
	@$(VENV)/python -m pytest -m lab

live: setup ## The live tier: a real GPU; skips with a reason where there is none
	@$(VENV)/python -m pytest -m live tests/live -s

accept: setup ## Measure and judge a living site, signed: make accept SITE=inventories/<site> [ARGS="--disturb --key FILE"]
	@$(VENV)/llm-size accept $(or $(SITE),$(error name the site: make accept SITE=inventories/<site>)) $(ARGS)

lock: setup ## Resolve the locks of engine and gateway again
	@$(VENV)/python tools/lock.py
	@uv lock && uv export --frozen --quiet --no-emit-project --format requirements-txt --output-file requirements-dev.txt

artifacts: setup ## Download what hosts install from: wheels of engine and gateway, the Prisma engine
	@$(VENV)/python -m tools.artifacts

vault: setup ## Make the secrets of a site: make vault SITE=inventories/<site>
	@$(VENV)/python tools/init_vault.py $(or $(SITE),$(error name the site: make vault SITE=inventories/<site>))

keys: setup ## Values of virtual keys: make keys SITE=inventories/<site> [ROTATE=<alias>]
	@$(VENV)/python -m tools.access_keys $(or $(SITE),$(error name the site: make keys SITE=inventories/<site>)) $(addprefix --rotate ,$(ROTATE))

schema: setup ## Generate docs/schema/ again
	@$(VENV)/llm-size schema --write docs/schema

clean: ## Remove .venv and caches of linters
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .ansible
