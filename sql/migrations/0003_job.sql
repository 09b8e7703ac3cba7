-- A job is three rows: what was submitted (job_spec, written once), where it stands while unfinished (job,
-- narrow and hot), how it ended (job_done, indexed for lists).

CREATE TABLE job_spec (
  id bigint PRIMARY KEY CHECK (id > 0),
  owner text NOT NULL,
  name text NOT NULL,
  spec_json text NOT NULL,  -- kept byte for byte; cast to jsonb to look inside
  created_at timestamptz NOT NULL,
  initial_state smallint NOT NULL CHECK (initial_state BETWEEN 1 AND 4));
-- The first 200 characters: an index entry has a size limit, a name has none here.
CREATE INDEX job_spec_name ON job_spec (left(name, 200), id);

-- Replays of a submission are recognised for a week (the leader forgets older keys when it takes office).
CREATE TABLE idempotency_key (
  owner text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL CHECK (key <> ''),
  body_hash bigint NOT NULL,
  job bigint NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (owner, key),
  CHECK (octet_length(owner) + octet_length(key) <= 1024));

-- NO other index, above all none that mentions state: that is what keeps updates HOT. The free half of each
-- page takes the next version of its rows. No row of a finished job. The constraints are those that guard the state
-- machine; each costs 6 µs a statement, so plain ranges are checked by db/rules.cpp alone.
CREATE TABLE job (
  id bigint PRIMARY KEY,
  created_at timestamptz NOT NULL,
  queued_at timestamptz NOT NULL,
  not_before timestamptz,
  hardware_window_at timestamptz,
  epoch bigint NOT NULL DEFAULT 0,
  best_step bigint NOT NULL DEFAULT -1,
  version integer NOT NULL,
  nodes integer NOT NULL,
  gpus_per_node integer NOT NULL,
  attempt integer NOT NULL DEFAULT 0,
  state smallint NOT NULL CHECK (state BETWEEN 1 AND 7),
  cause smallint NOT NULL DEFAULT 0 CHECK (cause BETWEEN 0 AND 17),
  priority smallint NOT NULL CHECK (priority BETWEEN 0 AND 100),
  no_progress smallint NOT NULL DEFAULT 0,
  front boolean NOT NULL DEFAULT false,
  queue text NOT NULL,
  project text NOT NULL,
  owner text NOT NULL,
  spent smallint[],  -- attempts charged, by cause + 1; NULL = none
  reason text NOT NULL DEFAULT '',
  CONSTRAINT job_attempts CHECK (epoch >= 0 AND attempt >= 0 AND (epoch = 0) = (attempt = 0)),
  CONSTRAINT job_active_has_attempt CHECK (state NOT IN (5, 6, 7) OR epoch > 0),
  CONSTRAINT job_delayed_until CHECK (state <> 2 OR not_before IS NOT NULL))
  WITH (fillfactor = 50,
        autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05);

CREATE TABLE job_done (
  id bigint PRIMARY KEY CHECK (id > 0),
  created_at timestamptz NOT NULL,
  queued_at timestamptz NOT NULL,
  not_before timestamptz,
  hardware_window_at timestamptz,
  ended_at timestamptz NOT NULL,
  epoch bigint NOT NULL,
  best_step bigint NOT NULL,
  version integer NOT NULL CHECK (version >= 1),
  nodes integer NOT NULL,
  gpus_per_node integer NOT NULL,
  attempt integer NOT NULL,
  exit_code integer NOT NULL,
  state smallint NOT NULL CHECK (state BETWEEN 8 AND 10),
  cause smallint NOT NULL CHECK (cause BETWEEN 0 AND 17),
  priority smallint NOT NULL,
  no_progress smallint NOT NULL,
  front boolean NOT NULL,
  queue text NOT NULL,
  project text NOT NULL,
  owner text NOT NULL,
  spent smallint[],
  reason text NOT NULL,
  CONSTRAINT job_done_attempts CHECK (epoch >= 0 AND attempt >= 0 AND (epoch = 0) = (attempt = 0)));
CREATE INDEX job_done_owner ON job_done (owner, id);
CREATE INDEX job_done_project ON job_done (project, id);
CREATE INDEX job_done_state ON job_done (state, id);
CREATE INDEX job_done_ended ON job_done (ended_at);

-- For people: psql, reports. The scheduler does not read it.
CREATE VIEW job_named AS
  SELECT j.id, p.name, s.name AS state, c.name AS cause, j.priority, j.queue, j.project, j.owner, j.nodes,
         j.gpus_per_node, j.attempt, j.epoch, j.created_at, j.queued_at, j.not_before, j.ended_at, j.reason
  FROM (SELECT id, state, cause, priority, queue, project, owner, nodes, gpus_per_node, attempt, epoch,
               created_at, queued_at, not_before, NULL::timestamptz AS ended_at, reason FROM job
        UNION ALL
        SELECT id, state, cause, priority, queue, project, owner, nodes, gpus_per_node, attempt, epoch,
               created_at, queued_at, not_before, ended_at, reason FROM job_done) j
  JOIN job_spec p USING (id)
  JOIN job_state_name s USING (state)
  JOIN cause_name c USING (cause);
