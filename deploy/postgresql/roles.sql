-- Who may do what in the portal's database. Docs: docs/audit.md, "Roles of the database".
--
--   portal_owner      owns everything; `manage.py migrate` and the archive. Never in a running service.
--   portal_app        web, worker and beat: all they like elsewhere, but the record only grows by their hand.
--   portal_sequencer  reads entries, adds leaves, tiles and checkpoints, writes its fence and the search index.
--   portal_verifier   reads the record, and nothing else.
--
-- Run it in the portal's database, the first time as a superuser, and after each `migrate` as portal_owner:
--
--   psql --single-transaction -v ON_ERROR_STOP=1 -f deploy/postgresql/roles.sql …   or   manage.py audit_roles --apply
--
-- It may be run again at any time, and takes away what is not written here. The roles have no password: give them
-- one (\password portal_app), or let pg_hba.conf and pg_ident.conf tie each to the Unix user of its process.
-- Roles belong to the whole cluster. Two portals in one cluster share them; give each its own cluster.

-- The roles, with no right beyond what is granted below. Altered only where they differ: that needs a superuser.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['portal_owner', 'portal_app', 'portal_sequencer', 'portal_verifier'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', name);
        END IF;
        IF EXISTS (
            SELECT FROM pg_roles WHERE rolname = name
            AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls OR NOT rolcanlogin)
        ) THEN
            EXECUTE format(
                'ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', name
            );
        END IF;
    END LOOP;
END $$;

-- Members of nothing: no way to become the owner, or one of PostgreSQL's roles that write everywhere.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT r.rolname AS above, m.rolname AS member
        FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
        WHERE m.rolname IN ('portal_owner', 'portal_app', 'portal_sequencer', 'portal_verifier')
           -- And nobody else is the owner. Whoever is the superuser needs no membership.
           OR r.rolname = 'portal_owner'
    LOOP
        EXECUTE format('REVOKE %I FROM %I', found.above, found.member);
    END LOOP;
END $$;

-- Ownership: whoever owns a table can drop its triggers, and whoever owns a function can empty it.
DO $$
DECLARE
    found record;
BEGIN
    IF (SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()) <> 'portal_owner' THEN
        EXECUTE format('ALTER DATABASE %I OWNER TO portal_owner', current_database());
    END IF;
    IF (SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'public') <> 'portal_owner' THEN
        ALTER SCHEMA public OWNER TO portal_owner;
    END IF;
    FOR found IN
        SELECT c.oid::regclass AS relation FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
          AND c.relowner <> 'portal_owner'::regrole
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO portal_owner', found.relation);
    END LOOP;
    -- Identity sequences follow their table; these are on their own.
    FOR found IN
        SELECT c.oid::regclass AS relation FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S'
          AND c.relowner <> 'portal_owner'::regrole
    LOOP
        EXECUTE format('ALTER SEQUENCE %s OWNER TO portal_owner', found.relation);
    END LOOP;
    FOR found IN
        SELECT p.oid::regprocedure AS routine FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proowner <> 'portal_owner'::regrole
          -- Functions of an extension stay its installer's.
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO portal_owner', found.routine);
    END LOOP;
END $$;

-- From here on it is made anew each time, in the one transaction: first nothing, then what is listed.
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC, portal_app, portal_sequencer, portal_verifier', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO portal_app, portal_sequencer, portal_verifier', current_database());
END $$;
REVOKE ALL ON SCHEMA public FROM PUBLIC, portal_app, portal_sequencer, portal_verifier;
GRANT USAGE ON SCHEMA public TO portal_app, portal_sequencer, portal_verifier;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, portal_app, portal_sequencer, portal_verifier;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC, portal_app, portal_sequencer, portal_verifier;
REVOKE ALL ON ALL ROUTINES IN SCHEMA public FROM PUBLIC, portal_app, portal_sequencer, portal_verifier;

-- Who else was given a right to write the record loses it; readers keep theirs.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT DISTINCT c.oid::regclass AS relation, g.rolname AS grantee
        FROM pg_class c
        LEFT JOIN pg_attribute t ON t.attrelid = c.oid AND t.attacl IS NOT NULL
        CROSS JOIN LATERAL (
            SELECT * FROM aclexplode(c.relacl) UNION ALL SELECT * FROM aclexplode(t.attacl)
        ) a
        JOIN pg_roles g ON g.oid = a.grantee
        WHERE c.relnamespace = 'public'::regnamespace AND c.relname LIKE 'audit\_%' AND c.relkind = 'r'
          AND a.grantee <> c.relowner AND a.privilege_type <> 'SELECT'
    LOOP
        EXECUTE format(
            'REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON %s FROM %I',
            found.relation, found.grantee
        );
    END LOOP;
END $$;

-- Functions that run with the rights of the owner or of a superuser are nobody else's to call.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT DISTINCT p.oid::regprocedure AS routine, coalesce(quote_ident(g.rolname), 'PUBLIC') AS grantee
        FROM pg_proc p
        JOIN pg_namespace n ON n.oid = p.pronamespace
        JOIN pg_roles o ON o.oid = p.proowner
        CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        LEFT JOIN pg_roles g ON g.oid = a.grantee
        WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')
          AND (o.rolsuper OR o.rolname = 'portal_owner') AND a.grantee <> p.proowner
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    LOOP
        EXECUTE format('REVOKE ALL ON ROUTINE %s FROM %s', found.routine, found.grantee);
    END LOOP;
END $$;

-- What each may do. A table of the record that is not listed is the owner's alone: whoever adds one adds its row.
DO $$
DECLARE
    wanted record;
    found record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('audit_entry',          'portal_app',       'SELECT'),  -- INSERT: see below
            ('audit_entry',          'portal_sequencer', 'SELECT'),
            ('audit_entry',          'portal_verifier',  'SELECT'),
            ('audit_leaf',           'portal_app',       'SELECT'),
            ('audit_leaf',           'portal_sequencer', 'SELECT, INSERT'),
            ('audit_leaf',           'portal_verifier',  'SELECT'),
            ('audit_tile',           'portal_app',       'SELECT'),
            ('audit_tile',           'portal_sequencer', 'SELECT, INSERT'),
            ('audit_tile',           'portal_verifier',  'SELECT'),
            ('audit_checkpoint',     'portal_app',       'SELECT'),
            ('audit_checkpoint',     'portal_sequencer', 'SELECT, INSERT'),
            ('audit_checkpoint',     'portal_verifier',  'SELECT'),
            ('audit_sequencerfence', 'portal_app',       'SELECT'),
            ('audit_sequencerfence', 'portal_sequencer', 'SELECT, UPDATE'),
            ('audit_sequencerfence', 'portal_verifier',  'SELECT'),
            ('audit_words',          'portal_app',       'SELECT'),
            ('audit_words',          'portal_sequencer', 'SELECT, INSERT'),
            ('audit_searchindex',    'portal_app',       'SELECT'),
            ('audit_searchindex',    'portal_sequencer', 'SELECT, INSERT, UPDATE'),
            ('audit_segment',        'portal_app',       'SELECT'),
            ('audit_segment',        'portal_verifier',  'SELECT'),
            ('audit_witness',        'portal_app',       'SELECT, INSERT, UPDATE (asked_at, problem, retired_at)'),
            ('audit_witness',        'portal_verifier',  'SELECT'),
            ('audit_cosignature',    'portal_app',       'SELECT, INSERT'),
            ('audit_cosignature',    'portal_verifier',  'SELECT'),
            ('audit_witnessrefusal', 'portal_app',       'SELECT, INSERT'),
            ('audit_witnessrefusal', 'portal_verifier',  'SELECT'),
            ('audit_refusalacknowledgement', 'portal_app', 'SELECT, INSERT'),
            ('audit_refusalacknowledgement', 'portal_verifier', 'SELECT'),
            ('audit_dispute',        'portal_app',       'SELECT, INSERT'),
            ('audit_dispute',        'portal_verifier',  'SELECT'),
            ('audit_disputeacknowledgement', 'portal_app', 'SELECT, INSERT'),
            ('audit_disputeacknowledgement', 'portal_verifier', 'SELECT'),
            -- Outside the leaves so that it can be erased; a changed one would open nothing. A right to update
            -- some column is what PostgreSQL asks of who locks rows, as the erasure does.
            ('audit_personaldatum',  'portal_app',       'SELECT, INSERT, DELETE, UPDATE (made_at)'),
            ('django_migrations',    'portal_app',       'SELECT')
        ) AS list (relation, grantee, verbs)
        WHERE to_regclass('public.' || relation) IS NOT NULL
    LOOP
        EXECUTE format('GRANT %s ON public.%I TO %I', wanted.verbs, wanted.relation, wanted.grantee);
    END LOOP;

    -- Everything that is not the record. What people signed and guests told of break-glass only grows; tickets,
    -- passkeys, reviews, proposals and what was found of guests' receipts change and are never removed.
    FOR found IN
        SELECT c.relname, CASE
            WHEN c.relname IN (
                'breakglass_approversetversion', 'breakglass_setsignature', 'breakglass_tenantapprovers',
                'breakglass_termsversion', 'breakglass_revision', 'breakglass_approval', 'breakglass_rejection',
                'breakglass_ownerapproval', 'breakglass_intent', 'breakglass_receipt'
            ) THEN 'SELECT, INSERT'
            WHEN c.relname IN (
                'breakglass_ticket', 'breakglass_passkey', 'breakglass_review', 'breakglass_setproposal',
                'breakglass_mismatch', 'breakglass_receipthead'
            ) THEN 'SELECT, INSERT, UPDATE'
            ELSE 'SELECT, INSERT, UPDATE, DELETE'
        END AS verbs
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
          AND c.relname NOT LIKE 'audit\_%' AND c.relname <> 'django_migrations'
    LOOP
        EXECUTE format('GRANT %s ON public.%I TO portal_app', found.verbs, found.relname);
    END LOOP;
    FOR found IN
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S' AND c.relname NOT LIKE 'audit\_%'
    LOOP
        EXECUTE format('GRANT USAGE ON SEQUENCE public.%I TO portal_app', found.relname);
    END LOOP;

    -- An entry's number is the database's to give: all columns but that one.
    IF to_regclass('public.audit_entry') IS NOT NULL THEN
        EXECUTE format(
            'GRANT INSERT (%s) ON public.audit_entry TO portal_app',
            (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
             WHERE attrelid = 'public.audit_entry'::regclass AND attnum > 0 AND NOT attisdropped
               AND attname <> 'id')
        );
    END IF;
END $$;

-- What a later migration adds is closed until this file has been run again.
ALTER DEFAULT PRIVILEGES FOR ROLE portal_owner IN SCHEMA public
    REVOKE ALL ON TABLES FROM PUBLIC, portal_app, portal_sequencer, portal_verifier;
ALTER DEFAULT PRIVILEGES FOR ROLE portal_owner IN SCHEMA public
    REVOKE ALL ON SEQUENCES FROM PUBLIC, portal_app, portal_sequencer, portal_verifier;
ALTER DEFAULT PRIVILEGES FOR ROLE portal_owner REVOKE ALL ON ROUTINES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE portal_owner IN SCHEMA public GRANT SELECT ON TABLES TO portal_app;
