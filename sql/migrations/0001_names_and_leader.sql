-- Names of the numbers that stand in smallint columns, as views for people and for tests (the tables of
-- scheduler/model/states.h say the same), the fence of leaders, and the two checks a commit is made of.

CREATE VIEW job_state_name(state, name) AS VALUES
  (1::smallint, 'queued'), (2, 'delayed'), (3, 'blocked'), (4, 'held'), (5, 'starting'), (6, 'running'),
  (7, 'stopping'), (8, 'succeeded'), (9, 'failed'), (10, 'cancelled');
CREATE VIEW attempt_state_name(state, name) AS VALUES
  (1::smallint, 'placed'), (2, 'preflight'), (3, 'starting'), (4, 'running'), (5, 'stopping'), (6, 'ended');
CREATE VIEW attempt_result_name(result, name) AS VALUES
  (0::smallint, 'none'), (1, 'succeeded'), (2, 'failed'), (3, 'stopped');
CREATE VIEW node_state_name(state, name) AS VALUES
  (1::smallint, 'reachable'), (2, 'unreachable'), (3, 'dead');
CREATE VIEW node_service_name(service, name) AS VALUES
  (1::smallint, 'schedulable'), (2, 'cordoned'), (3, 'draining'), (4, 'quarantined'), (5, 'probation');
CREATE VIEW gpu_health_name(health, name) AS VALUES
  (1::smallint, 'healthy'), (2, 'dirty'), (3, 'quarantined');
CREATE VIEW cause_name(cause, name) AS VALUES
  (0::smallint, 'none'), (1, 'user'), (2, 'oom'), (3, 'gpu'), (4, 'node_lost'), (5, 'fabric'), (6, 'network'),
  (7, 'storage'), (8, 'launch'), (9, 'hang'), (10, 'unknown'), (11, 'preempted'), (12, 'maintenance'),
  (13, 'control'), (14, 'time_limit'), (15, 'cancelled'), (16, 'requeued'), (17, 'held');

-- One row. Every commit reads it FOR SHARE; a new leader updates it, which waits for commits under way and
-- makes every later commit of an older term fail.
CREATE TABLE leader (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  term bigint NOT NULL CHECK (term >= 0),
  holder text NOT NULL,
  since timestamptz NOT NULL DEFAULT now());
INSERT INTO leader (term, holder) VALUES (0, '');

-- Both raise an error instead of returning one: a whole transaction travels in one network flush, COMMIT
-- included, so only the server can still stop it. TT001 and TT002 become StoreError deposed and conflict.
CREATE FUNCTION tutti_check_term(t bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM leader WHERE term = t FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'TT001', MESSAGE = format('term %s is over', t);
  END IF;
END $$;

CREATE FUNCTION tutti_expect(actual bigint, expected bigint, what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF actual <> expected THEN
    RAISE EXCEPTION USING ERRCODE = 'TT002',
      MESSAGE = format('%s: %s of %s rows are as the batch expects', what, actual, expected);
  END IF;
END $$;
