-- The appliance's own tables, beside LiteLLM's in the same database. Safe to run again.
CREATE SCHEMA IF NOT EXISTS appliance;

-- Raised with every change of this file or of audit/schema.sql, here and in ledger/book.py: the role `audit` applies both.
CREATE OR REPLACE FUNCTION appliance.schema_version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 2';

-- How far each segment file of each gateway host has been read.
CREATE TABLE IF NOT EXISTS appliance.segment (
    host text NOT NULL,
    path text NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (host, path)
);

-- Who sent a request, and under which id LiteLLM keeps its own row of it. A staging table: old rows are taken away.
CREATE TABLE IF NOT EXISTS appliance.caller (
    request text PRIMARY KEY,
    call_id text NOT NULL,
    key_hash text,
    key_alias text,
    team_id text,
    team_alias text,
    user_id text,
    organization_id text,
    end_user text,
    tags jsonb NOT NULL,
    model_group text,
    begun_at timestamptz NOT NULL,
    spend_log_id text
);
ALTER TABLE appliance.caller ADD COLUMN IF NOT EXISTS client text;
CREATE INDEX IF NOT EXISTS caller_begun_at ON appliance.caller (begun_at);

-- What a relay reported before anybody was known to have asked for it.
CREATE TABLE IF NOT EXISTS appliance.unclaimed (
    entry text PRIMARY KEY,
    host text NOT NULL,
    record jsonb NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);

-- One row for each request that used anything. Written once, never changed.
CREATE TABLE IF NOT EXISTS appliance.usage (
    entry text PRIMARY KEY,
    request text NOT NULL,
    call_id text NOT NULL,
    source text NOT NULL CHECK (source IN ('relay', 'provider')),
    host text NOT NULL,
    model text NOT NULL,
    model_group text,
    endpoint text,
    key_hash text,
    key_alias text,
    team_id text,
    team_alias text,
    user_id text,
    organization_id text,
    end_user text,
    tags jsonb NOT NULL,
    prompt_tokens bigint NOT NULL CHECK (prompt_tokens >= 0),
    completion_tokens bigint NOT NULL CHECK (completion_tokens >= 0),
    cached_tokens bigint NOT NULL CHECK (cached_tokens >= 0),
    legs jsonb NOT NULL,
    outcome text NOT NULL,
    cost numeric(24, 15) NOT NULL CHECK (cost >= 0),
    begun_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    booked_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS usage_ended_at ON appliance.usage (ended_at);
CREATE INDEX IF NOT EXISTS usage_key ON appliance.usage (key_hash, ended_at);
CREATE INDEX IF NOT EXISTS usage_team ON appliance.usage (team_id, ended_at);
CREATE INDEX IF NOT EXISTS usage_request ON appliance.usage (request);
CREATE INDEX IF NOT EXISTS usage_booked ON appliance.usage (host, booked_at);

CREATE OR REPLACE FUNCTION appliance.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'appliance.% is append-only: % refused', TG_TABLE_NAME, TG_OP;
END
$$;
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE ON appliance.usage
    FOR EACH ROW EXECUTE FUNCTION appliance.refuse_change();
CREATE OR REPLACE TRIGGER append_only_as_a_whole BEFORE TRUNCATE ON appliance.usage
    FOR EACH STATEMENT EXECUTE FUNCTION appliance.refuse_change();

-- What LiteLLM had lost or recorded otherwise, and was put right.
CREATE TABLE IF NOT EXISTS appliance.repair (
    request text PRIMARY KEY,
    spend_log_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('missing', 'different')),
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    cost numeric(24, 15) NOT NULL,
    repaired_at timestamptz NOT NULL DEFAULT now()
);

-- Up to which moment of booking LiteLLM's rows were compared.
CREATE TABLE IF NOT EXISTS appliance.compared (
    host text PRIMARY KEY,
    until timestamptz NOT NULL
);

-- Sums since the beginning, for the metrics.
CREATE TABLE IF NOT EXISTS appliance.counter (
    host text NOT NULL,
    name text NOT NULL,
    value double precision NOT NULL,
    PRIMARY KEY (host, name)
);

-- A budget that was passed, once for each budget and period.
CREATE TABLE IF NOT EXISTS appliance.alert (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('key', 'team', 'member', 'gateway')),
    subject text NOT NULL,
    level text NOT NULL CHECK (level IN ('soft', 'hard')),
    occasion text NOT NULL,
    event jsonb NOT NULL,
    noticed_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, subject, level, occasion)
);

-- Who has heard of it, and who is still to be told.
CREATE TABLE IF NOT EXISTS appliance.delivery (
    alert bigint NOT NULL REFERENCES appliance.alert,
    receiver text NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    fault text,
    PRIMARY KEY (alert, receiver)
);
CREATE INDEX IF NOT EXISTS delivery_due ON appliance.delivery (next_at) WHERE delivered_at IS NULL;
