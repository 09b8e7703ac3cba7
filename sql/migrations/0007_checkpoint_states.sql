-- What is known of a checkpoint: whether attempts may begin from it, what it cost, and how it is deleted.

CREATE VIEW checkpoint_state_name(state, name) AS VALUES
  (1::smallint, 'found'), (2, 'good'), (3, 'suspect'), (4, 'bad');

ALTER TABLE checkpoint
  ADD COLUMN state smallint NOT NULL DEFAULT 1 CONSTRAINT checkpoint_state CHECK (state BETWEEN 1 AND 4),
  ADD COLUMN detail text NOT NULL DEFAULT '',
  ADD COLUMN restored boolean NOT NULL DEFAULT false,
  ADD COLUMN failed_restores smallint NOT NULL DEFAULT 0 CHECK (failed_restores >= 0),
  ADD COLUMN cost_us bigint NOT NULL DEFAULT 0 CHECK (cost_us >= 0),  -- 0: not known
  ADD COLUMN retired_at timestamptz,  -- to be deleted some time after
  ADD COLUMN deleting boolean NOT NULL DEFAULT false,
  ADD COLUMN deleted_at timestamptz,
  ADD CONSTRAINT checkpoint_retired_first CHECK (retired_at IS NOT NULL OR (NOT deleting AND deleted_at IS NULL));

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
  ELSIF kind = 'checkpoint' THEN
    RETURN from_name = to_name OR from_name || '>' || to_name = ANY (ARRAY[
      '>found', '>bad', 'found>good', 'found>suspect', 'found>bad', 'good>suspect', 'good>bad', 'suspect>good',
      'suspect>bad']);
  END IF;
  RETURN kind <> '';
END $$;
