-- The schema of Keymill in a PostgreSQL database, version 2.
-- It can be applied again: what exists already stays as it is.
BEGIN;

-- One session at a time creates what is missing. Without this lock, nodes that start together
-- fail with unique violations in PostgreSQL's own catalogs.
SELECT pg_catalog.pg_advisory_xact_lock(1263356236, -1);

-- Lock 0 waits for commits, and lets none begin. A commit that holds it, and waited for a table, would be in a circle.
SELECT pg_catalog.pg_advisory_xact_lock(1263356236, 0);

DO $$
BEGIN
  -- CREATE SCHEMA IF NOT EXISTS needs the right to create schemas even if this one exists.
  IF pg_catalog.to_regnamespace('keymill') IS NULL THEN
    CREATE SCHEMA keymill;
  END IF;
END
$$;

-- Programs of schema versions oldest to version can use this database.
CREATE TABLE IF NOT EXISTS keymill.schema (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  version  integer NOT NULL,
  oldest   integer NOT NULL
);

-- All records. ver is a random number that each commit draws, and all of its records get.
-- Half-empty pages keep updates of a record on its page, so that no index changes.
CREATE TABLE IF NOT EXISTS keymill.record (
  k   text COLLATE pg_catalog."C" PRIMARY KEY,
  v   bytea  NOT NULL,
  ver bigint NOT NULL
) WITH (fillfactor = 80);
ALTER TABLE keymill.record ALTER COLUMN v SET STORAGE EXTERNAL; -- values are sealed, or too short to compress

-- One row for each committer of a node. It tells a node that lost an answer what became of its commit.
CREATE TABLE IF NOT EXISTS keymill.node (
  id    text PRIMARY KEY,
  epoch bigint NOT NULL DEFAULT 0,
  seq   bigint NOT NULL DEFAULT 0,
  used  timestamp with time zone NOT NULL DEFAULT pg_catalog.now()
) WITH (fillfactor = 20);

-- Functions carry a version in their names, so that nodes of two versions can run side by side.

-- compare_v1 returns the reads that do not hold, as they are now, and a row with version -1 if a span
-- changed. It is STABLE: all of its queries see what its caller's query sees.
--
-- A span is compared by the versions of its records in key order. The keys need not be compared:
-- two states of a span with the same versions would hold records of the same commits, and a record
-- that is deleted and comes back gets a new version.
CREATE OR REPLACE FUNCTION keymill.compare_v1(
  read_keys text[], read_vers bigint[],
  span_starts text[], span_ends text[], span_counts integer[], span_vers bigint[])
RETURNS TABLE (k text, v bytea, ver bigint)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan -- the lists are short, so planning each call again costs more than it gains
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off -- also while statistics are missing
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  before integer := 0; -- versions of earlier spans
  found_vers bigint[];
BEGIN
  IF pg_catalog.pg_is_in_recovery() THEN
    RAISE EXCEPTION 'the server is a standby' USING ERRCODE = '25006';
  END IF;
  RETURN QUERY
    SELECT r.k, t.v, coalesce(t.ver, 0)
    FROM unnest(read_keys, read_vers) AS r (k, ver)
    LEFT JOIN keymill.record AS t ON t.k = r.k
    WHERE coalesce(t.ver, 0) <> r.ver;
  FOR i IN 1 .. coalesce(array_length(span_starts, 1), 0) LOOP
    IF span_ends[i] IS NULL THEN
      SELECT coalesce(array_agg(s.ver ORDER BY s.k), '{}') INTO found_vers FROM (
        SELECT t.k, t.ver FROM keymill.record AS t
        WHERE t.k >= span_starts[i]
        ORDER BY t.k LIMIT span_counts[i] + 1) AS s;
    ELSE
      SELECT coalesce(array_agg(s.ver ORDER BY s.k), '{}') INTO found_vers FROM (
        SELECT t.k, t.ver FROM keymill.record AS t
        WHERE t.k >= span_starts[i] AND t.k < span_ends[i]
        ORDER BY t.k LIMIT span_counts[i] + 1) AS s;
    END IF;
    IF found_vers <> span_vers[before + 1 : before + span_counts[i]] THEN
      RETURN QUERY SELECT ''::text, NULL::bytea, -1::bigint;
      RETURN;
    END IF;
    before := before + span_counts[i];
  END LOOP;
END
$$;

-- commit_v2 takes locks, compares, and writes if everything holds. It returns what compare_v1 returns.
--
-- Every commit takes lock 0: alone if it scanned or has very many keys, shared otherwise. A commit
-- that shares it also takes a lock for each key, sorted: alone for a key that it writes (a positive
-- number), shared for one that it only read (a negative number). So of two commits that could
-- contradict each other one waits until the other one is visible, and none wait in a circle.
CREATE OR REPLACE FUNCTION keymill.commit_v2(
  node_id text, node_epoch bigint, node_seq bigint, new_ver bigint,
  alone boolean, locks integer[],
  read_keys text[], read_vers bigint[],
  span_starts text[], span_ends text[], span_counts integer[], span_vers bigint[],
  update_keys text[], update_values bytea[], put_keys text[], put_values bytea[], delete_keys text[])
RETURNS TABLE (k text, v bytea, ver bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
  -- A stricter level would compare with a snapshot that is older than the locks.
  IF pg_catalog.current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'the isolation level is %', pg_catalog.current_setting('transaction_isolation') USING ERRCODE = 'KM002';
  END IF;
  IF pg_catalog.current_setting('synchronous_commit') IN ('off', 'local') THEN
    RAISE EXCEPTION 'synchronous_commit is %', pg_catalog.current_setting('synchronous_commit') USING ERRCODE = 'KM003';
  END IF;
  IF alone THEN
    PERFORM pg_catalog.pg_advisory_xact_lock(1263356236, 0);
  ELSE
    PERFORM pg_catalog.pg_advisory_xact_lock_shared(1263356236, 0);
    PERFORM CASE -- in the order of the list, as a function in FROM returns it
      WHEN l < 0 THEN pg_catalog.pg_advisory_xact_lock_shared(1263356236, -l)
      ELSE pg_catalog.pg_advisory_xact_lock(1263356236, l)
    END FROM unnest(locks) AS l;
  END IF;
  -- From here on each query has a snapshot that is newer than the locks.
  IF span_starts IS NOT NULL THEN
    RETURN QUERY SELECT c.k, c.v, c.ver
      FROM keymill.compare_v1(read_keys, read_vers, span_starts, span_ends, span_counts, span_vers) AS c;
  ELSE -- as compare_v1 does, without a call of it
    RETURN QUERY
      SELECT r.k, t.v, coalesce(t.ver, 0)
      FROM unnest(read_keys, read_vers) AS r (k, ver)
      LEFT JOIN keymill.record AS t ON t.k = r.k
      WHERE coalesce(t.ver, 0) <> r.ver;
  END IF;
  IF FOUND THEN
    RETURN;
  END IF;
  UPDATE keymill.node AS n SET seq = node_seq, used = pg_catalog.now() WHERE n.id = node_id AND n.epoch = node_epoch;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the token of committer % has changed', node_id USING ERRCODE = 'KM001';
  END IF;
  IF update_keys IS NOT NULL THEN
    UPDATE keymill.record AS t SET v = u.v, ver = new_ver
    FROM unnest(update_keys, update_values) AS u (k, v) WHERE t.k = u.k;
  END IF;
  IF put_keys IS NOT NULL THEN
    INSERT INTO keymill.record AS t (k, v, ver)
    SELECT u.k, u.v, new_ver FROM unnest(put_keys, put_values) AS u (k, v)
    ON CONFLICT ON CONSTRAINT record_pkey DO UPDATE SET v = excluded.v, ver = excluded.ver;
  END IF;
  IF delete_keys IS NOT NULL THEN
    DELETE FROM keymill.record AS t USING unnest(delete_keys) AS d (k) WHERE t.k = d.k;
  END IF;
END
$$;

INSERT INTO keymill.schema (version, oldest) VALUES (2, 2) ON CONFLICT DO NOTHING;

-- Servers of version 1 lock the same key by another number, so they must not write beside those of version 2. A new epoch
-- ends their commits that wait for lock 0. From then on they find no function.
DO $$
BEGIN
  IF (SELECT version FROM keymill.schema) < 2 THEN
    UPDATE keymill.node SET epoch = epoch + 1;
    DROP FUNCTION IF EXISTS keymill.commit_v1;
    UPDATE keymill.schema SET version = 2, oldest = 2;
  END IF;
END
$$;

COMMIT;

-- If Keymill connects as another role than the one that ran this, give that role these rights:
--
--   GRANT USAGE ON SCHEMA keymill TO its_role;
--   GRANT SELECT ON keymill.schema TO its_role;
--   GRANT SELECT, INSERT, UPDATE, DELETE ON keymill.record, keymill.node TO its_role;
--   GRANT EXECUTE ON FUNCTION keymill.compare_v1, keymill.commit_v2 TO its_role;
--
-- It also needs CONNECT on the database. Every role has that unless someone has revoked it from PUBLIC.
