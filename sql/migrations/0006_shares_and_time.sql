-- What operators set up at run time: shares of queues and projects, nodes reserved for a time; and how long a
-- job has run in all.

ALTER TABLE queue
  ADD COLUMN nodes_of text NOT NULL DEFAULT '',  -- the queue whose nodes it uses; '' = its own
  ADD COLUMN quota_gpus integer NOT NULL DEFAULT -1 CHECK (quota_gpus >= -1),
  ADD COLUMN borrow_gpus integer NOT NULL DEFAULT -1 CHECK (borrow_gpus >= -1),
  ADD COLUMN lend_gpus integer NOT NULL DEFAULT -1 CHECK (lend_gpus >= -1);

ALTER TABLE project
  ADD COLUMN parent text NOT NULL DEFAULT '',
  ADD COLUMN weight double precision NOT NULL DEFAULT 1 CHECK (weight > 0),
  ADD COLUMN max_gpus integer NOT NULL DEFAULT -1 CHECK (max_gpus >= -1),
  ADD CONSTRAINT project_not_its_own_parent CHECK (parent <> name);

CREATE TABLE reservation (
  name text PRIMARY KEY CHECK (name <> ''),
  reason text NOT NULL,
  nodes jsonb NOT NULL CHECK (jsonb_typeof(nodes) = 'array'),
  projects jsonb NOT NULL CHECK (jsonb_typeof(projects) = 'array'),
  from_at timestamptz NOT NULL,
  until_at timestamptz NOT NULL,
  CONSTRAINT reservation_has_time CHECK (until_at > from_at));

ALTER TABLE job ADD COLUMN ran_us bigint NOT NULL DEFAULT 0;
ALTER TABLE job_done ADD COLUMN ran_us bigint NOT NULL DEFAULT 0;

-- Changes of shares belong to no node.
ALTER TABLE node_event ALTER COLUMN node DROP NOT NULL;

-- A deadline ends jobs that wait, and a released job may have others to wait for.
CREATE OR REPLACE FUNCTION tutti_legal_event(kind text, from_name text, to_name text) RETURNS boolean
  LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
  IF kind = 'state' THEN
    RETURN from_name || '>' || to_name = ANY (ARRAY[
      '>queued', '>delayed', '>blocked', '>held', 'delayed>queued', 'blocked>queued', 'blocked>delayed',
      'blocked>failed', 'queued>starting', 'starting>running', 'starting>stopping', 'running>stopping',
      'running>succeeded', 'stopping>succeeded', 'stopping>queued', 'stopping>delayed', 'stopping>held',
      'stopping>failed', 'stopping>cancelled', 'queued>held', 'delayed>held', 'blocked>held', 'held>queued',
      'held>delayed', 'held>blocked', 'queued>failed', 'delayed>failed', 'held>failed', 'queued>cancelled',
      'delayed>cancelled', 'blocked>cancelled', 'held>cancelled']);
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
