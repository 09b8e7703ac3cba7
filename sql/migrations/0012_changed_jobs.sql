-- What people change of a job after its submission: the spec that holds from then on. The submitted one stays as it
-- was, since a replay of the submission is answered from it. NULL = never changed.
ALTER TABLE job_spec ADD changed_json text;

-- A job's begin time may be put off while it waits.
CREATE OR REPLACE FUNCTION tutti_legal_event(kind text, from_name text, to_name text) RETURNS boolean
  LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
  IF kind = 'state' THEN
    RETURN from_name || '>' || to_name = ANY (ARRAY[
      '>queued', '>delayed', '>blocked', '>held', 'delayed>queued', 'blocked>queued', 'blocked>delayed',
      'blocked>failed', 'queued>starting', 'starting>running', 'starting>stopping', 'running>stopping',
      'running>succeeded', 'stopping>succeeded', 'stopping>queued', 'stopping>delayed', 'stopping>held',
      'stopping>failed', 'stopping>cancelled', 'queued>held', 'delayed>held', 'blocked>held', 'held>queued',
      'held>delayed', 'held>blocked', 'queued>delayed', 'queued>failed', 'delayed>failed', 'held>failed',
      'queued>cancelled', 'delayed>cancelled', 'blocked>cancelled', 'held>cancelled']);
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
