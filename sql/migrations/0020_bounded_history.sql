-- History that ends, ids that never come again, and tables that stay small under churn (docs/design/0018-backup.md).

-- No id up to these is given again, though the rows that had it are gone: dropped with old history, or lost with what
-- came after a backup.
CREATE TABLE id_floor (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  job bigint NOT NULL DEFAULT 0 CHECK (job >= 0),
  node bigint NOT NULL DEFAULT 0 CHECK (node >= 0),
  gpu bigint NOT NULL DEFAULT 0 CHECK (gpu >= 0),
  event bigint NOT NULL DEFAULT 0 CHECK (event >= 0),
  fault bigint NOT NULL DEFAULT 0 CHECK (fault >= 0));
INSERT INTO id_floor DEFAULT VALUES;

-- Called before rows go. Reads the end of five indexes.
CREATE FUNCTION tutti_raise_id_floor() RETURNS void LANGUAGE sql AS $$
  UPDATE id_floor SET
    job = greatest(job, (SELECT max(id) FROM job_spec)),
    node = greatest(node, (SELECT max(id) FROM node)),
    gpu = greatest(gpu, (SELECT max(id) FROM gpu)),
    event = greatest(event, (SELECT max(id) FROM job_event), (SELECT max(id) FROM node_event)),
    fault = greatest(fault, (SELECT max(id) FROM fault))
$$;

-- Drops the oldest month of events that is over for good, and says its name; nothing: there is none, or somebody reads.
-- The lock on job_event, which keeps commits waiting, is asked for during 200 ms at the most.
CREATE FUNCTION job_event_drop_partition(before timestamptz) RETURNS text
  LANGUAGE plpgsql SET lock_timeout = '200ms' SET timezone = 'UTC' AS $$
DECLARE
  oldest text;
BEGIN
  SELECT c.relname INTO oldest
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent = 'job_event'::regclass AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
    AND substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz <= before
  ORDER BY c.relname LIMIT 1;
  IF oldest IS NULL THEN
    RETURN NULL;
  END IF;
  PERFORM tutti_raise_id_floor();
  EXECUTE format('DROP TABLE %I', oldest);
  RETURN oldest;
EXCEPTION WHEN lock_not_available THEN
  RETURN NULL;
END $$;

-- Jobs that ended before, with all that is told of them but their events: at most so many, and how many there were.
CREATE FUNCTION tutti_forget_jobs(before timestamptz, most integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  old bigint[];
BEGIN
  SELECT array_agg(id) INTO old FROM (
    SELECT id FROM job_done WHERE ended_at < before ORDER BY ended_at, created_at LIMIT most) oldest;
  IF old IS NULL THEN
    RETURN 0;
  END IF;
  PERFORM tutti_raise_id_floor();
  DELETE FROM allocation WHERE job = ANY (old) AND until_at IS NOT NULL;
  DELETE FROM checkpoint WHERE job = ANY (old);
  DELETE FROM attempt WHERE job = ANY (old);
  DELETE FROM job_done WHERE id = ANY (old);
  DELETE FROM job_spec WHERE id = ANY (old);
  RETURN cardinality(old);
END $$;

-- Likewise what is told of nodes, faults, and events of jobs that never got a month of their own.
CREATE FUNCTION tutti_forget_records(before timestamptz, most integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  here bigint;
  gone bigint := 0;
BEGIN
  PERFORM tutti_raise_id_floor();
  DELETE FROM console_session WHERE expires_at < before;
  DELETE FROM join_token WHERE expires_at < before;
  DELETE FROM node_event WHERE id IN (SELECT id FROM node_event WHERE at < before LIMIT most);
  GET DIAGNOSTICS here = ROW_COUNT;
  gone := greatest(gone, here);
  DELETE FROM fault WHERE id IN (SELECT id FROM fault WHERE at < before LIMIT most);
  GET DIAGNOSTICS here = ROW_COUNT;
  gone := greatest(gone, here);
  DELETE FROM job_event_default WHERE (id, at) IN (SELECT id, at FROM job_event_default WHERE at < before LIMIT most);
  GET DIAGNOSTICS here = ROW_COUNT;
  RETURN greatest(gone, here);
END $$;

-- A restore raises the epochs of jobs that were never placed, as far as it knows: the first attempt is not always epoch 1.
-- Weaker than what held before, so there is nothing to look through. One statement takes both locks, in the order in
-- which commits take them.
LOCK TABLE job, job_done IN ACCESS EXCLUSIVE MODE;
ALTER TABLE job
  DROP CONSTRAINT job_attempts,
  ADD CONSTRAINT job_attempts CHECK (epoch >= 0 AND attempt >= 0 AND (attempt = 0 OR epoch > 0)) NOT VALID,
  DROP CONSTRAINT job_active_has_attempt,
  ADD CONSTRAINT job_active_has_attempt CHECK (state NOT IN (5, 6, 7) OR attempt > 0) NOT VALID;
ALTER TABLE job_done
  DROP CONSTRAINT job_done_attempts,
  ADD CONSTRAINT job_done_attempts CHECK (epoch >= 0 AND attempt >= 0 AND (attempt = 0 OR epoch > 0)) NOT VALID;

-- Autovacuum waits for a fifth of a table by default, which of a large one is hours of churn. These are taken into account
-- from now on and rewrite nothing; they lock out neither readers nor writers.
ALTER TABLE attempt SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
                         autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE allocation SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
ALTER TABLE job_done SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
ALTER TABLE job_spec SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
ALTER TABLE waiting_reason SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
ALTER TABLE series_block SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000,
                              toast.autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE idempotency_key SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
ALTER TABLE webhook_delivery SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000,
                                  fillfactor = 80);
ALTER TABLE audit SET (autovacuum_vacuum_scale_factor = 0.05);
-- Small, and updated for ever: the free half of a page takes the next version (HOT).
ALTER TABLE node SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 500);
ALTER TABLE gpu SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE leader SET (fillfactor = 10, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 50);
