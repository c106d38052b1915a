-- The audit, beside the ledger's tables. Safe to run again, by whoever owns the schema `appliance`.
-- On a host that is `appliance`, which nobody can log in as: the gateway's login adds rows and can take none away.

-- One row for each request that reached the gateway, and for each call that changes keys, teams or budgets.
CREATE TABLE IF NOT EXISTS appliance.audit_request (
    entry text NOT NULL,
    at timestamptz NOT NULL,
    host text NOT NULL,
    request text,
    call_id text,
    result text NOT NULL CHECK (result IN ('completed', 'cached', 'cut', 'failed', 'refused', 'lost', 'administered')),
    reason text,
    status smallint,
    key_hash text,
    key_alias text,
    team_id text,
    team_alias text,
    user_id text,
    end_user text,
    client text,
    model text,
    endpoint text,
    prompt_tokens bigint,
    completion_tokens bigint,
    cost numeric(24, 15),
    ended_at timestamptz,
    targets text[],
    PRIMARY KEY (at, entry)
) PARTITION BY RANGE (at);
CREATE INDEX IF NOT EXISTS audit_request_key ON appliance.audit_request (key_hash, at);
CREATE INDEX IF NOT EXISTS audit_request_team ON appliance.audit_request (team_id, at);
CREATE INDEX IF NOT EXISTS audit_request_call ON appliance.audit_request (call_id);
CREATE INDEX IF NOT EXISTS audit_request_refused ON appliance.audit_request (at) WHERE result = 'refused';
CREATE INDEX IF NOT EXISTS audit_request_administered ON appliance.audit_request (at) WHERE result = 'administered';

-- What was asked, word for word. Empty unless the operator wants it (audit.yml: record_prompts).
CREATE TABLE IF NOT EXISTS appliance.audit_prompt (
    entry text NOT NULL,
    at timestamptz NOT NULL,
    request text,
    call_id text,
    prompt jsonb NOT NULL,
    PRIMARY KEY (at, entry)
) PARTITION BY RANGE (at);
CREATE INDEX IF NOT EXISTS audit_prompt_call ON appliance.audit_prompt (call_id);

-- One row for each change of a key, team, user, budget or membership, by whatever way it came.
CREATE TABLE IF NOT EXISTS appliance.audit_change (
    entry bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,
    object text NOT NULL,
    alias text,
    operation text NOT NULL,
    actor text,
    actor_key text,
    login text NOT NULL,
    client inet,
    application text,
    was jsonb,
    became jsonb,
    PRIMARY KEY (at, entry)
) PARTITION BY RANGE (at);
CREATE INDEX IF NOT EXISTS audit_change_object ON appliance.audit_change (object, at);

-- How long rows stay, and how wide a partition is. The owner's; audit.yml says what stands in it.
CREATE TABLE IF NOT EXISTS appliance.audit_retention (
    relation text PRIMARY KEY,
    step text NOT NULL CHECK (step IN ('month', 'day')),
    ahead integer NOT NULL CHECK (ahead > 0),
    behind integer NOT NULL CHECK (behind > 0),
    retention_days integer NOT NULL CHECK (retention_days > 0)
);
INSERT INTO appliance.audit_retention (relation, step, ahead, behind, retention_days) VALUES
    ('audit_request', 'month', 3, 2, 400), ('audit_change', 'month', 3, 2, 1830), ('audit_prompt', 'day', 7, 31, 30)
ON CONFLICT (relation) DO NOTHING;

-- Which of LiteLLM's tables are watched, what their rows are called, and which columns move by themselves.
CREATE OR REPLACE FUNCTION appliance.audited(OUT relation text, OUT kind text, OUT keys text[], OUT alias text)
RETURNS SETOF record LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    VALUES
        ('LiteLLM_VerificationToken', 'key', ARRAY['token'], 'key_alias'),
        ('LiteLLM_DeletedVerificationToken', 'removed key', ARRAY['token'], 'key_alias'),
        ('LiteLLM_DeprecatedVerificationToken', 'rotated key', ARRAY['token'], NULL),
        ('LiteLLM_TeamTable', 'team', ARRAY['team_id'], 'team_alias'),
        ('LiteLLM_DeletedTeamTable', 'removed team', ARRAY['team_id'], 'team_alias'),
        ('LiteLLM_UserTable', 'user', ARRAY['user_id'], 'user_email'),
        ('LiteLLM_EndUserTable', 'end user', ARRAY['user_id'], 'alias'),
        ('LiteLLM_BudgetTable', 'budget', ARRAY['budget_id'], NULL),
        ('LiteLLM_TeamMembership', 'team member', ARRAY['team_id', 'user_id'], NULL),
        ('LiteLLM_OrganizationTable', 'organization', ARRAY['organization_id'], 'organization_alias'),
        ('LiteLLM_OrganizationMembership', 'organization member', ARRAY['organization_id', 'user_id'], NULL),
        ('LiteLLM_ProjectTable', 'project', ARRAY['project_id'], 'project_alias'),
        ('LiteLLM_TagTable', 'tag', ARRAY['tag_name'], NULL),
        ('LiteLLM_AccessGroupTable', 'model group', ARRAY['access_group_id'], 'access_group_name'),
        ('LiteLLM_ObjectPermissionTable', 'permission', ARRAY['object_permission_id'], NULL),
        ('LiteLLM_ProxyModelTable', 'model', ARRAY['model_id'], 'model_name'),
        ('LiteLLM_GuardrailsTable', 'guardrail', ARRAY['guardrail_id'], 'guardrail_name'),
        ('LiteLLM_CredentialsTable', 'credential', ARRAY['credential_id'], 'credential_name'),
        ('LiteLLM_Config', 'setting', ARRAY['param_name'], NULL)
$$;

-- A row without what moves by itself: spend, moments, LiteLLM's own bookkeeping.
CREATE OR REPLACE FUNCTION appliance.settings_of(row_of jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT row_of - ARRAY['spend', 'total_spend', 'model_spend', 'last_active', 'updated_at', 'created_at', 'deleted_at',
        'settings_updated_at', 'budget_reset_at', 'soft_budget_cooldown', 'last_run_at', 'reload_revision',
        'last_breach_check_at', 'updated_by', 'created_by', 'deleted_by', 'deleted_by_api_key', 'litellm_changed_by']
$$;

-- The same without secrets, wherever they stand: values, never names.
CREATE OR REPLACE FUNCTION appliance.without_secrets(content jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(content) = 'object' THEN
        RETURN coalesce((SELECT jsonb_object_agg(name, CASE
            WHEN value <> 'null' AND name ~* '(^|_|-)(secret|password|passwd|token|api_?key|key_name|private_?key|access_?key|credential|credential_values|litellm_params|authorization|salt|dsn|headers?|webhook|webhook_url)(_|-|$)'
                THEN '"(not recorded)"' ELSE appliance.without_secrets(value) END) FROM jsonb_each(content) AS member(name, value)), '{}');
    ELSIF jsonb_typeof(content) = 'array' THEN
        RETURN coalesce((SELECT jsonb_agg(appliance.without_secrets(value)) FROM jsonb_array_elements(content) AS element(value)), '[]');
    ELSIF jsonb_typeof(content) = 'string' AND content #>> '{}' ~ '(^|[^A-Za-z0-9])sk-[A-Za-z0-9_-]{8,}' THEN
        RETURN '"(not recorded)"';
    END IF;
    RETURN content;
END
$$;

-- The trigger of every watched table. It runs as the owner of the audit, so that LiteLLM's login need not write there.
CREATE OR REPLACE FUNCTION appliance.record_change()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    watched record;
    before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    after jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    present jsonb := coalesce(after, before);
    was jsonb;
    became jsonb;
    name_of text;
    who text;
    by_key text;
BEGIN
    IF TG_OP = 'UPDATE' AND appliance.settings_of(before) = appliance.settings_of(after) THEN
        RETURN NULL;  -- spend, mostly
    END IF;
    SELECT * INTO watched FROM appliance.audited() a WHERE a.relation = TG_TABLE_NAME AND TG_TABLE_SCHEMA = 'public';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'appliance.record_change is for the tables of appliance.audited(), not for %', TG_RELID::regclass;
    END IF;
    was := appliance.without_secrets(appliance.settings_of(before));
    became := appliance.without_secrets(appliance.settings_of(after));
    SELECT string_agg(present ->> part, '/' ORDER BY position) INTO name_of
        FROM unnest(watched.keys) WITH ORDINALITY AS key_part(part, position);
    IF TG_OP = 'UPDATE' THEN
        -- A secret that changed looks the same on both sides, and is a change all the same.
        SELECT jsonb_object_agg(name, value) INTO became FROM jsonb_each(became) AS member(name, value)
            WHERE appliance.settings_of(before) -> name IS DISTINCT FROM appliance.settings_of(after) -> name;
        SELECT jsonb_object_agg(name, was -> name) INTO was FROM jsonb_object_keys(became) AS changed(name);
    END IF;
    who := CASE TG_OP WHEN 'INSERT' THEN coalesce(present ->> 'litellm_changed_by', present ->> 'deleted_by', present ->> 'created_by')
        WHEN 'UPDATE' THEN present ->> 'updated_by' END;
    by_key := present ->> 'deleted_by_api_key';
    IF TG_OP = 'DELETE' THEN  -- LiteLLM has just written who, into its table of removed ones
        SELECT c.actor, c.actor_key INTO who, by_key FROM appliance.audit_change c
            WHERE c.object = name_of AND c.kind = 'removed ' || watched.kind AND c.at > clock_timestamp() - interval '1 minute'
            ORDER BY c.at DESC LIMIT 1;
    END IF;
    INSERT INTO appliance.audit_change (kind, object, alias, operation, actor, actor_key, login, client, application, was, became)
    VALUES (watched.kind, name_of, present ->> watched.alias,
        CASE TG_OP WHEN 'INSERT' THEN 'made' WHEN 'UPDATE' THEN 'changed' ELSE 'removed' END,
        nullif(who, ''), nullif(by_key, ''), session_user, inet_client_addr(),
        nullif(current_setting('application_name', true), ''), was, became);
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION appliance.record_emptying()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO appliance.audit_change (kind, object, operation, login, client, application)
    VALUES ('table', TG_TABLE_NAME, 'emptied', session_user, inet_client_addr(),
        nullif(current_setting('application_name', true), ''));
    RETURN NULL;
END
$$;

-- A change of a watched table itself: by LiteLLM's upgrade, or by somebody who would rather not be seen.
CREATE OR REPLACE FUNCTION appliance.record_definition(command text, object text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO appliance.audit_change (kind, object, operation, login, client, application)
    VALUES ('table', object, lower(command), session_user, inet_client_addr(),
        nullif(current_setting('application_name', true), ''));
END
$$;

-- Hangs the triggers on the watched tables that are there and have none, as the owner of those tables.
CREATE OR REPLACE FUNCTION appliance.watch()
RETURNS integer LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name_of text;
    hung integer := 0;
BEGIN
    FOR name_of IN
        SELECT a.relation FROM appliance.audited() a JOIN pg_class c ON c.relname = a.relation AND c.relkind IN ('r', 'p')
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
        WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'appliance_audit')
    LOOP
        EXECUTE format('CREATE TRIGGER appliance_audit AFTER INSERT OR UPDATE OR DELETE ON public.%I FOR EACH ROW '
            'EXECUTE FUNCTION appliance.record_change()', name_of);
        EXECUTE format('CREATE TRIGGER appliance_audit_all AFTER TRUNCATE ON public.%I FOR EACH STATEMENT '
            'EXECUTE FUNCTION appliance.record_emptying()', name_of);
        hung := hung + 1;
    END LOOP;
    RETURN hung;
END
$$;

-- Which watched tables have a trigger that is missing, switched off or bent. Empty is right.
CREATE OR REPLACE FUNCTION appliance.unwatched()
RETURNS SETOF text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT a.relation FROM appliance.audited() a JOIN pg_class c ON c.relname = a.relation AND c.relkind IN ('r', 'p')
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
    WHERE 2 <> (SELECT count(*) FROM pg_trigger t
        WHERE t.tgrelid = c.oid AND t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL AND t.tgattr = ''::int2vector
            AND (t.tgname, t.tgtype, t.tgfoid) IN (
                ('appliance_audit', 29, 'appliance.record_change'::regproc),
                ('appliance_audit_all', 32, 'appliance.record_emptying'::regproc)))
$$;

-- Makes partitions ahead and takes away those whose last day is older than the retention. Says what it did.
CREATE OR REPLACE FUNCTION appliance.keep_audit()
RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    kept record;
    width interval;
    shape text;
    begins timestamptz;
    part text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('appliance.keep_audit'));
    FOR kept IN SELECT * FROM appliance.audit_retention ORDER BY relation LOOP
        width := ('1 ' || kept.step)::interval;
        shape := CASE kept.step WHEN 'month' THEN 'YYYY_MM' ELSE 'YYYY_MM_DD' END;
        IF to_regclass(format('appliance.%I', kept.relation || '_other')) IS NULL THEN
            EXECUTE format('CREATE TABLE appliance.%I PARTITION OF appliance.%I DEFAULT', kept.relation || '_other', kept.relation);
        END IF;
        FOR begins IN SELECT generate_series(date_trunc(kept.step, now()) - kept.behind * width,
                date_trunc(kept.step, now()) + kept.ahead * width, width) LOOP
            part := kept.relation || '_' || to_char(begins, shape);
            CONTINUE WHEN begins + width <= now() - make_interval(days => kept.retention_days)
                OR to_regclass(format('appliance.%I', part)) IS NOT NULL;
            -- What came while there was no partition for it waits in the last resort, and moves.
            EXECUTE format('CREATE TABLE appliance.%I (LIKE appliance.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, kept.relation);
            EXECUTE format('WITH moved AS (DELETE FROM appliance.%I WHERE at >= %L AND at < %L RETURNING *) '
                'INSERT INTO appliance.%I SELECT * FROM moved', kept.relation || '_other', begins, begins + width, part);
            EXECUTE format('ALTER TABLE appliance.%I ATTACH PARTITION appliance.%I FOR VALUES FROM (%L) TO (%L)',
                kept.relation, part, begins, begins + width);
            RETURN NEXT 'made ' || part;
        END LOOP;
        FOR part IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = format('appliance.%I', kept.relation)::regclass AND c.relname <> kept.relation || '_other'
                -- CASE: PostgreSQL may ask this of every name of the catalogue before it joins, and most are no dates.
                AND CASE WHEN c.relname ~ ('^' || kept.relation || '_[0-9_]+$')
                    THEN to_timestamp(substr(c.relname, length(kept.relation) + 2), shape) + width
                        <= now() - make_interval(days => kept.retention_days)
                    ELSE false END ORDER BY 1 LOOP
            EXECUTE format('DROP TABLE appliance.%I', part);
            RETURN NEXT 'dropped ' || part;
        END LOOP;
        EXECUTE format('DELETE FROM appliance.%I WHERE at < now() - make_interval(days => %L)',
            kept.relation || '_other', kept.retention_days);
    END LOOP;
END
$$;
SELECT appliance.keep_audit();
