"""A PostgreSQL whose bill and audit are owned as on a host: by `appliance`, for a gateway that logs in as `litellm`."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.prisma_engine.postgres import PASSWORD, USER, PostgresServer

ROOT = Path(__file__).resolve().parents[2]
LOGIN, LOGIN_PASSWORD = "litellm", "gateway"
# The columns of LiteLLM 1.109.1 that matter here.
KEYS = """
CREATE TABLE "LiteLLM_VerificationToken" (token text PRIMARY KEY, key_alias text, spend float8 DEFAULT 0,
    max_budget float8, metadata jsonb DEFAULT '{}', created_by text, updated_by text, updated_at timestamp);
CREATE TABLE "LiteLLM_DeletedVerificationToken" (token text, key_alias text, deleted_by text, deleted_by_api_key text,
    litellm_changed_by text);
CREATE TABLE "LiteLLM_TeamTable" (team_id text PRIMARY KEY, team_alias text, spend float8 DEFAULT 0, max_budget float8,
    members_with_roles jsonb);
"""
# The steps of roles/audit/vars/main.yml.
STEPS = ["--file", "audit/owner.sql", "--command", "SET ROLE appliance", "--file", "ledger/schema.sql",
         "--file", "audit/schema.sql", "--command", "RESET ROLE", "--file", "audit/rights.sql"]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Refused(Exception):
    """What PostgreSQL said."""

    words: str


@dataclass(frozen=True, kw_only=True)
class OwnedDatabase:
    """One database of a server; asked as the gateway or as the superuser."""

    server: PostgresServer
    name: str

    @classmethod
    def make(cls, server: PostgresServer, name: str) -> OwnedDatabase:
        if not server.sql("postgres", f"SELECT 1 FROM pg_roles WHERE rolname = '{LOGIN}'"):  # noqa: S608
            server.sql("postgres", f"CREATE ROLE {LOGIN} LOGIN PASSWORD '{LOGIN_PASSWORD}'")
        server.sql("postgres", f"CREATE DATABASE {name} OWNER {LOGIN} TEMPLATE template0")
        return cls(server=server, name=name)

    @property
    def url(self) -> str:
        return f"postgresql://{LOGIN}:{LOGIN_PASSWORD}@127.0.0.1:{self.server.port}/{self.name}"

    def install(self, *, login: str = LOGIN) -> None:
        """What the role does, in the same order."""
        self._psql("--single-transaction", "--set", f"login={login}", *STEPS, user=USER)

    def gateway(self, statement: str) -> str:
        return self._psql("--command", statement, user=LOGIN)

    def superuser(self, statement: str) -> str:
        return self._psql("--command", statement, user=USER)

    def _psql(self, *arguments: str, user: str) -> str:
        environment = os.environ | {
            "PGHOST": "127.0.0.1", "PGPORT": str(self.server.port), "PGDATABASE": self.name, "PGUSER": user,
            "PGPASSWORD": PASSWORD if user == USER else LOGIN_PASSWORD, "PGTZ": "UTC",
        }  # fmt: skip
        command = ["psql", "--no-psqlrc", "-qAt", "--set", "ON_ERROR_STOP=1", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(words=done.stderr)
        return done.stdout.strip()
