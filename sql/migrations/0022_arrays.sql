-- The tasks of an array are one row until something about them is written (docs/design/0021-arrays.md): then
-- tutti_unfold gives a task the rows that it would have had from the beginning, in job_spec, job and job_event.
CREATE TABLE job_array (
  id bigint PRIMARY KEY CHECK (id > 0),  -- of its first task; an array that began at once has others before it
  last bigint NOT NULL,
  waiting int8multirange NOT NULL,       -- tasks without rows of their own
  -- of job and job_spec
  created_at timestamptz NOT NULL,
  queued_at timestamptz NOT NULL,
  not_before timestamptz,
  epoch bigint NOT NULL DEFAULT 0 CHECK (epoch >= 0),
  nodes integer NOT NULL,
  gpus_per_node integer NOT NULL,
  state smallint NOT NULL CHECK (state BETWEEN 1 AND 4),
  priority smallint NOT NULL CHECK (priority BETWEEN 0 AND 100),
  queue text NOT NULL,
  project text NOT NULL,
  owner text NOT NULL,
  reason text NOT NULL,
  name text NOT NULL,
  text_format text NOT NULL,             -- for format(): %1$s is the index of a task, %2$s its position
  first_index bigint NOT NULL,
  index_step bigint NOT NULL,
  first_position bigint NOT NULL,
  -- of job_event: all of them are as the first one, but for its id
  first_event bigint NOT NULL CHECK (first_event > 0),
  last_event bigint NOT NULL,
  event_at timestamptz NOT NULL,
  event_to text NOT NULL,
  event_cause smallint NOT NULL CHECK (event_cause BETWEEN 0 AND 17),
  event_detail text NOT NULL,
  told boolean NOT NULL DEFAULT true,    -- retention has not come to the event yet
  CONSTRAINT job_array_waiting CHECK (waiting <@ int8range(id, last, '[]')),
  CONSTRAINT job_array_events CHECK (last_event - first_event = last - id),
  CONSTRAINT job_array_event_edge CHECK (tutti_legal_event('state', '', event_to)),
  CONSTRAINT job_array_delayed_until CHECK (state <> 2 OR not_before IS NOT NULL),
  -- So the array of a task is the one with the highest id that is not above it.
  CONSTRAINT job_array_apart EXCLUDE USING gist (int8range(id, last, '[]') WITH &&))
  WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
CREATE INDEX job_array_name ON job_array (left(name, 200), id);
CREATE INDEX job_array_event ON job_array (last_event);

-- ---------------------------------------------------------------- tasks as the rows that they have not

-- A task as a row of job, with what job_spec has of it.
CREATE FUNCTION tutti_task(a job_array, task bigint) RETURNS TABLE (
  id bigint, created_at timestamptz, queued_at timestamptz, not_before timestamptz, hardware_window_at timestamptz,
  epoch bigint, best_step bigint, version integer, nodes integer, gpus_per_node integer, attempt integer,
  state smallint, cause smallint, priority smallint, no_progress smallint, front boolean, queue text, project text,
  owner text, spent smallint[], reason text, ran_us bigint, name text, spec_json text, initial_state smallint)
  LANGUAGE sql STABLE AS $$
  SELECT task, a.created_at, a.queued_at, a.not_before, NULL::timestamptz, a.epoch, -1::bigint, 1, a.nodes,
         a.gpus_per_node, 0, a.state, 0::smallint, a.priority, 0::smallint, false, a.queue, a.project, a.owner,
         NULL::smallint[], a.reason, 0::bigint, a.name,
         format(a.text_format, a.first_index + a.index_step * (task - a.id), a.first_position + (task - a.id)),
         a.state
$$;

CREATE FUNCTION tutti_task_event(a job_array, task bigint) RETURNS TABLE (
  id bigint, at timestamptz, job bigint, node bigint, epoch bigint, cause smallint, kind text, from_name text,
  to_name text, detail text)
  LANGUAGE sql STABLE AS $$
  SELECT a.first_event + (task - a.id), a.event_at, task, NULL::bigint, NULL::bigint, a.event_cause, 'state', '',
         a.event_to, a.event_detail
  WHERE a.told
$$;

-- The array of one task, if it has no rows of its own.
CREATE FUNCTION tutti_array_of(task bigint) RETURNS SETOF job_array LANGUAGE sql STABLE AS $$
  SELECT a.* FROM job_array a
  WHERE a.id = (SELECT b.id FROM job_array b WHERE b.id <= task ORDER BY b.id DESC LIMIT 1) AND a.waiting @> task
$$;

-- These and tutti_task_events in plpgsql, which plans a statement once in a session: written out in each query that uses them they would
-- cost every reader its planning, also where there are no arrays.
CREATE FUNCTION tutti_tasks_in(tasks int8multirange) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN (SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM unnest(tasks) r);
END $$;

-- The lowest, and the highest: at most so many, in that order.
CREATE FUNCTION tutti_first_tasks(tasks int8multirange, most bigint) RETURNS SETOF bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN QUERY
    SELECT t FROM (SELECT r FROM unnest(tasks) r ORDER BY lower(r) LIMIT most) s
    CROSS JOIN LATERAL generate_series(lower(r), least(upper(r) - 1, lower(r) + most - 1)) t ORDER BY t LIMIT most;
END $$;
CREATE FUNCTION tutti_last_tasks(tasks int8multirange, most bigint) RETURNS SETOF bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN QUERY
    SELECT t FROM (SELECT r FROM unnest(tasks) r ORDER BY lower(r) DESC LIMIT most) s
    CROSS JOIN LATERAL generate_series(upper(r) - 1, greatest(lower(r), upper(r) - most), -1) t
    ORDER BY t DESC LIMIT most;
END $$;

-- The next so many events of tasks behind `after`. Arrays are counted first: those behind the last one wanted
-- are not gone through.
CREATE FUNCTION tutti_task_events(after bigint, most bigint) RETURNS TABLE (
  id bigint, at timestamptz, job bigint, node bigint, epoch bigint, cause smallint, kind text, from_name text,
  to_name text, detail text)
  LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN QUERY
    SELECT e.* FROM (
      SELECT c.array_id, c.tasks,
             sum(tutti_tasks_in(c.tasks)) OVER (ORDER BY c.last_event ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
      FROM (SELECT s.* FROM (
              SELECT b.id AS array_id, b.last_event,
                     b.waiting * int8multirange(int8range(b.id + (after - b.first_event) + 1, NULL)) AS tasks
              FROM job_array b WHERE b.last_event > after AND b.told) s
            WHERE NOT isempty(s.tasks) ORDER BY s.last_event LIMIT most) c) n
    JOIN job_array a ON a.id = n.array_id
    CROSS JOIN LATERAL tutti_first_tasks(n.tasks, most) t(task)
    CROSS JOIN LATERAL tutti_task_event(a, t.task) e
    WHERE coalesce(n.before, 0) < most
    ORDER BY e.id LIMIT most;
END $$;

-- All of them. For reports and for people: it goes through every task, whatever id is asked for.
CREATE VIEW job_folded AS
  SELECT t.*, a.id AS array_id
  FROM job_array a CROSS JOIN LATERAL unnest(a.waiting) r
  CROSS JOIN LATERAL generate_series(lower(r), upper(r) - 1) i CROSS JOIN LATERAL tutti_task(a, i) t;

CREATE OR REPLACE VIEW job_named AS
  SELECT j.id, j.name, s.name AS state, c.name AS cause, j.priority, j.queue, j.project, j.owner, j.nodes,
         j.gpus_per_node, j.attempt, j.epoch, j.created_at, j.queued_at, j.not_before, j.ended_at, j.reason
  FROM (SELECT id, p.name, state, cause, priority, queue, project, j.owner, nodes, gpus_per_node, attempt, epoch,
               j.created_at, queued_at, not_before, NULL::timestamptz AS ended_at, reason
        FROM job j JOIN job_spec p USING (id)
        UNION ALL
        SELECT id, p.name, state, cause, priority, queue, project, j.owner, nodes, gpus_per_node, attempt, epoch,
               j.created_at, queued_at, not_before, ended_at, reason
        FROM job_done j JOIN job_spec p USING (id)
        UNION ALL
        SELECT id, name, state, cause, priority, queue, project, owner, nodes, gpus_per_node, attempt, epoch,
               created_at, queued_at, not_before, NULL, reason FROM job_folded) j
  JOIN job_state_name s USING (state)
  JOIN cause_name c USING (cause);

-- ---------------------------------------------------------------- unfolding

-- What stays folded of those that could: in more than 128 pieces only the longest 64, so that the row stays small
-- whichever tasks begin first.
CREATE FUNCTION tutti_stay_folded(tasks int8multirange) RETURNS int8multirange LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN (SELECT count(*) FROM unnest(tasks)) <= 128 THEN tasks ELSE
    (SELECT range_agg(r) FROM (SELECT r FROM unnest(tasks) r ORDER BY upper(r) - lower(r) DESC, lower(r) LIMIT 64) s) END
$$;

-- Gives those of `tasks` (NULL: all) their own rows that lie in these arrays and have none yet, and says how many got
-- some. An event that retention has come to is left out.
CREATE FUNCTION tutti_unfold(arrays bigint[], tasks bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  wanted int8multirange := '{(,)}';
  unfolded bigint;
BEGIN
  IF tasks IS NOT NULL THEN
    SELECT coalesce(range_agg(int8range(t, t, '[]')), '{}') INTO wanted FROM unnest(tasks) t;
  END IF;
  INSERT INTO job_spec (id, owner, name, spec_json, created_at, initial_state)
  SELECT t.id, t.owner, t.name, t.spec_json, t.created_at, t.initial_state
  FROM job_array a CROSS JOIN LATERAL unnest(a.waiting - tutti_stay_folded(a.waiting - wanted)) r
  CROSS JOIN LATERAL generate_series(lower(r), upper(r) - 1) i CROSS JOIN LATERAL tutti_task(a, i) t
  WHERE a.id = ANY (arrays);
  GET DIAGNOSTICS unfolded = ROW_COUNT;
  IF unfolded = 0 THEN
    RETURN 0;
  END IF;
  INSERT INTO job (id, created_at, queued_at, not_before, epoch, version, nodes, gpus_per_node, state, priority, queue,
                   project, owner, reason)
  SELECT t.id, t.created_at, t.queued_at, t.not_before, t.epoch, t.version, t.nodes, t.gpus_per_node, t.state, t.priority,
         t.queue, t.project, t.owner, t.reason
  FROM job_array a CROSS JOIN LATERAL unnest(a.waiting - tutti_stay_folded(a.waiting - wanted)) r
  CROSS JOIN LATERAL generate_series(lower(r), upper(r) - 1) i CROSS JOIN LATERAL tutti_task(a, i) t
  WHERE a.id = ANY (arrays);
  INSERT INTO job_event (id, at, job, node, epoch, cause, kind, from_name, to_name, detail)
  SELECT e.id, e.at, e.job, e.node, e.epoch, e.cause, e.kind, e.from_name, e.to_name, e.detail
  FROM job_array a CROSS JOIN LATERAL unnest(a.waiting - tutti_stay_folded(a.waiting - wanted)) r
  CROSS JOIN LATERAL generate_series(lower(r), upper(r) - 1) i CROSS JOIN LATERAL tutti_task_event(a, i) e
  WHERE a.id = ANY (arrays);
  UPDATE job_array a SET waiting = tutti_stay_folded(a.waiting - wanted)
  WHERE a.id = ANY (arrays) AND a.waiting && wanted;
  DELETE FROM job_array a WHERE a.id = ANY (arrays) AND isempty(a.waiting);
  RETURN unfolded;
END $$;

CREATE FUNCTION tutti_unfold_all() RETURNS bigint LANGUAGE sql AS $$
  SELECT tutti_unfold((SELECT array_agg(id) FROM job_array), NULL)
$$;

-- A scheduler of the version before takes the lead: it knows no arrays, and is about to read all that it leads. What a
-- scheduler knows is told by the lock that its session holds (db/pg/pg_store.cpp).
CREATE FUNCTION tutti_unfold_for_older() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM job_array) AND NOT EXISTS (
      SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND classid = 73812044 AND
        objsubid = 2 AND objid::bigint >= 22) THEN
    PERFORM tutti_unfold_all();
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER leader_knows_arrays AFTER UPDATE OF term ON leader
  FOR EACH ROW EXECUTE FUNCTION tutti_unfold_for_older();

-- ---------------------------------------------------------------- ids and retention

CREATE OR REPLACE FUNCTION tutti_raise_id_floor() RETURNS void LANGUAGE sql AS $$
  UPDATE id_floor SET
    job = greatest(job, (SELECT max(id) FROM job_spec), (SELECT last FROM job_array ORDER BY id DESC LIMIT 1)),
    node = greatest(node, (SELECT max(id) FROM node)),
    gpu = greatest(gpu, (SELECT max(id) FROM gpu)),
    event = greatest(event, (SELECT max(id) FROM job_event), (SELECT max(id) FROM node_event),
                     (SELECT max(last_event) FROM job_array)),
    fault = greatest(fault, (SELECT max(id) FROM fault))
$$;

-- As before; of folded tasks the events are no longer told that are old, and would have been in a month that is gone or
-- that never had a partition.
CREATE OR REPLACE FUNCTION tutti_forget_records(before timestamptz, most integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  here bigint;
  gone bigint := 0;
BEGIN
  PERFORM tutti_raise_id_floor();
  UPDATE job_array SET told = false
  WHERE told AND event_at < before AND
        to_regclass('job_event_' || to_char(event_at AT TIME ZONE 'UTC', 'YYYYMM')) IS NULL;
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

-- ---------------------------------------------------------------- partitions of the history

-- As job_event_make_partitions, which schema 21 calls, but what is said is until when there are partitions without a gap: a
-- month that could not get one while somebody read the table is tried again, before its first event lies in the default one.
CREATE FUNCTION job_event_make_months(around timestamptz) RETURNS timestamptz
  LANGUAGE plpgsql SET lock_timeout = '2s' SET timezone = 'UTC' AS $$
DECLARE
  first timestamptz := date_trunc('month', around);
  next timestamptz;
  partition text;
BEGIN
  FOR i IN 0..1 LOOP
    next := first + interval '1 month';
    partition := 'job_event_' || to_char(first, 'YYYYMM');
    IF to_regclass(partition) IS NULL THEN
      BEGIN
        EXECUTE format('CREATE TABLE %I PARTITION OF job_event FOR VALUES FROM (%L) TO (%L)', partition, first, next);
      EXCEPTION
        WHEN check_violation THEN  -- its events lie in the default partition already, and stay there
          RAISE NOTICE 'events of % stay in the default partition', to_char(first, 'YYYY-MM');
        WHEN lock_not_available THEN
          RETURN first;
      END;
    END IF;
    first := next;
  END LOOP;
  RETURN first;
END $$;
