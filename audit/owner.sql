-- Run by PostgreSQL's superuser on its own host, with psql and the variable `login`: the gateway's login.
-- Nothing of the schema `appliance` belongs to that login afterwards. It adds to the bill and the audit, and that is all.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'appliance') THEN
        CREATE ROLE appliance NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
    END IF;
END $$;
CREATE SCHEMA IF NOT EXISTS appliance;
-- What an earlier release made as the gateway's login changes hands, partitions and sequences with their tables.
DO $$
DECLARE thing record;
BEGIN
    EXECUTE format('GRANT CREATE ON DATABASE %I TO appliance', current_database());
    ALTER SCHEMA appliance OWNER TO appliance;
    FOR thing IN SELECT oid::regclass AS name FROM pg_class
        WHERE relnamespace = 'appliance'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO appliance', thing.name);
    END LOOP;
    FOR thing IN SELECT oid::regprocedure AS name FROM pg_proc WHERE pronamespace = 'appliance'::regnamespace LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO appliance', thing.name);
    END LOOP;
END $$;
