-- After the tables: what the gateway's login (psql variable `login`) may do with each.
REVOKE ALL ON SCHEMA appliance FROM PUBLIC, :"login";
GRANT USAGE ON SCHEMA appliance TO :"login";
REVOKE ALL ON ALL TABLES IN SCHEMA appliance FROM PUBLIC, :"login";
REVOKE ALL ON ALL ROUTINES IN SCHEMA appliance FROM PUBLIC, :"login";
SELECT format('GRANT %s ON appliance.%I TO %I',
    CASE WHEN relname IN ('usage', 'repair') OR relname ~ '^audit_(request|prompt)$' THEN 'SELECT, INSERT'
        WHEN relname ~ '^audit_' THEN 'SELECT'
        ELSE 'SELECT, INSERT, UPDATE, DELETE' END, relname, :'login')
FROM pg_class WHERE relnamespace = 'appliance'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
\gexec
-- What LiteLLM's own statements set off runs with these.
GRANT EXECUTE ON FUNCTION appliance.schema_version(), appliance.audited(), appliance.settings_of(jsonb), appliance.record_change(),
    appliance.record_emptying(), appliance.record_definition(text, text), appliance.watch(), appliance.unwatched()
    TO :"login";

-- The superuser's event triggers: LiteLLM's login owns the watched tables, but cannot take the watch off them.
CREATE OR REPLACE FUNCTION appliance.watch_definitions()
RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE command record;
BEGIN
    FOR command IN SELECT c.command_tag AS tag, c.object_type AS kind, c.object_identity AS name, a.relation
        FROM pg_event_trigger_ddl_commands() c JOIN appliance.audited() a
        ON c.object_identity = format('public.%I', a.relation)
        OR (c.object_type = 'trigger' AND c.object_identity LIKE format('%% on public.%I', a.relation))
    LOOP
        IF command.kind = 'table' THEN
            PERFORM appliance.record_definition(command.tag, command.relation);
            PERFORM appliance.watch();
        END IF;
        -- While the two are hung, one after the other, the first stands alone for a moment.
        IF (command.tag <> 'CREATE TRIGGER' OR command.name !~ '^appliance_audit on ')
            AND command.relation IN (SELECT appliance.unwatched()) THEN
            RAISE EXCEPTION '% refused: the audit watches %', command.tag, command.name;
        END IF;
        IF command.tag = 'CREATE TRIGGER' AND command.name ~ '^appliance_audit on ' AND NOT EXISTS (
            SELECT FROM pg_trigger t WHERE t.tgrelid = format('public.%I', command.relation)::regclass
                AND t.tgname = 'appliance_audit' AND t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL AND t.tgtype = 29
                AND t.tgattr = ''::int2vector AND t.tgfoid = 'appliance.record_change'::regproc) THEN
            RAISE EXCEPTION '% refused: the audit watches %', command.tag, command.name;
        END IF;
    END LOOP;
END
$$;
CREATE OR REPLACE FUNCTION appliance.watch_removals()
RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE gone record;
BEGIN
    FOR gone IN SELECT * FROM pg_event_trigger_dropped_objects() LOOP
        IF gone.object_type = 'trigger' AND gone.original AND gone.object_identity ~ '^appliance_audit' THEN
            RAISE EXCEPTION '% refused: %', TG_TAG, gone.object_identity;
        ELSIF gone.object_type = 'table' AND gone.schema_name = 'public'
            AND gone.object_name IN (SELECT relation FROM appliance.audited()) THEN
            PERFORM appliance.record_definition(TG_TAG, gone.object_name);
        END IF;
    END LOOP;
END
$$;
ALTER FUNCTION appliance.watch_definitions() OWNER TO appliance;
ALTER FUNCTION appliance.watch_removals() OWNER TO appliance;
DROP EVENT TRIGGER IF EXISTS appliance_definitions;
CREATE EVENT TRIGGER appliance_definitions ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE TRIGGER', 'ALTER TRIGGER')
    EXECUTE FUNCTION appliance.watch_definitions();
DROP EVENT TRIGGER IF EXISTS appliance_removals;
CREATE EVENT TRIGGER appliance_removals ON sql_drop EXECUTE FUNCTION appliance.watch_removals();
SELECT appliance.watch();
