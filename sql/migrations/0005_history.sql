-- Append-only history. Ids are given by the leader and rise over both event tables together, so that one number
-- says how far a reader of the stream has come. The pairs are the edges of scheduler/model/states.h.

-- Called by the CHECK constraints below. A function and not the lists themselves: a constraint is parsed anew for every
-- statement, which for lists of this size costs more than inserting a small batch; a plpgsql function is parsed once per
-- session. Kinds without a machine take any pair, and an attempt or a node may be remarked upon where it is (from = to);
-- a job's state is told only when it changes.
CREATE FUNCTION tutti_legal_event(kind text, from_name text, to_name text) RETURNS boolean
  LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
  IF kind = 'state' THEN
    RETURN from_name || '>' || to_name = ANY (ARRAY[
      '>queued', '>delayed', '>blocked', '>held', 'delayed>queued', 'blocked>queued', 'blocked>delayed',
      'blocked>failed', 'queued>starting', 'starting>running', 'starting>stopping', 'running>stopping',
      'running>succeeded', 'stopping>succeeded', 'stopping>queued', 'stopping>delayed', 'stopping>held',
      'stopping>failed', 'stopping>cancelled', 'queued>held', 'delayed>held', 'blocked>held', 'held>queued',
      'held>delayed', 'queued>cancelled', 'delayed>cancelled', 'blocked>cancelled', 'held>cancelled']);
  ELSIF kind = 'attempt' THEN
    RETURN from_name = to_name OR from_name || '>' || to_name = ANY (ARRAY[
      '>placed', 'placed>preflight', 'preflight>starting', 'starting>running', 'placed>stopping',
      'preflight>stopping', 'starting>stopping', 'running>stopping', 'running>ended', 'stopping>ended']);
  ELSIF kind = 'node' THEN
    RETURN from_name = to_name OR from_name || '>' || to_name = ANY (ARRAY[
      '>reachable', 'reachable>unreachable', 'unreachable>reachable', 'unreachable>dead', 'dead>reachable']);
  END IF;
  RETURN kind <> '';
END $$;

CREATE TABLE job_event (
  id bigint NOT NULL,
  at timestamptz NOT NULL,
  job bigint NOT NULL,
  node bigint,
  epoch bigint,
  cause smallint NOT NULL CHECK (cause BETWEEN 0 AND 17),
  kind text NOT NULL,
  from_name text NOT NULL,
  to_name text NOT NULL,
  detail text NOT NULL,
  PRIMARY KEY (id, at),
  CONSTRAINT job_event_edge CHECK (tutti_legal_event(kind, from_name, to_name)))
  PARTITION BY RANGE (at);
CREATE INDEX job_event_job ON job_event (job, id);
CREATE TABLE job_event_default PARTITION OF job_event DEFAULT;

-- One partition a month, so that retention is DROP TABLE. Makes those of the month of `around` and of the next,
-- and says until when there are some. Called by the leader. A month that cannot get one (its rows already lie
-- in the default partition, or a long read holds the table) stays in the default partition: nothing is lost.
CREATE FUNCTION job_event_make_partitions(around timestamptz) RETURNS timestamptz
  LANGUAGE plpgsql SET lock_timeout = '2s' SET timezone = 'UTC' AS $$
DECLARE
  first timestamptz := date_trunc('month', around);
  last timestamptz;
  partition text;
BEGIN
  FOR i IN 0..1 LOOP
    last := first + interval '1 month';
    partition := 'job_event_' || to_char(first, 'YYYYMM');
    IF to_regclass(partition) IS NULL THEN
      BEGIN
        EXECUTE format('CREATE TABLE %I PARTITION OF job_event FOR VALUES FROM (%L) TO (%L)', partition, first, last);
      EXCEPTION WHEN check_violation OR lock_not_available THEN
        RAISE NOTICE 'events of % stay in the default partition', to_char(first, 'YYYY-MM');
      END;
    END IF;
    first := last;
  END LOOP;
  RETURN last;
END $$;

CREATE TABLE node_event (
  id bigint PRIMARY KEY,
  at timestamptz NOT NULL,
  node bigint NOT NULL,
  epoch bigint,
  cause smallint NOT NULL CHECK (cause BETWEEN 0 AND 17),
  kind text NOT NULL,
  from_name text NOT NULL,
  to_name text NOT NULL,
  detail text NOT NULL,
  CONSTRAINT node_event_edge CHECK (tutti_legal_event(kind, from_name, to_name)));
CREATE INDEX node_event_node ON node_event (node, id);

-- The ledger of faults.
CREATE TABLE fault (
  id bigint PRIMARY KEY CHECK (id > 0),
  at timestamptz NOT NULL,
  node bigint,
  gpu bigint,
  job bigint,
  epoch bigint,
  fault_class text NOT NULL CHECK (fault_class <> ''),
  xid integer NOT NULL,
  action text NOT NULL,
  detail text NOT NULL);
CREATE INDEX fault_node ON fault (node, id);
CREATE INDEX fault_gpu ON fault (gpu, id);
CREATE INDEX fault_job ON fault (job, id);
