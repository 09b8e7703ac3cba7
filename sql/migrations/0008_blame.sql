-- Whom a fault speaks against, what an attempt cost, and how a node comes back from repair.

-- The verdict: table and row that it was judged by; where the card sat; how many share the blame (1 = this GPU and its
-- node, n = one of n nodes of a gang, 0 = nobody is blamed).
ALTER TABLE fault
  ADD rule text NOT NULL DEFAULT '',
  ADD slot text NOT NULL DEFAULT '',
  ADD shared_by integer NOT NULL DEFAULT 0 CHECK (shared_by >= 0);
CREATE INDEX fault_blamed ON fault (id) WHERE shared_by > 0;

-- What its failure looked like, when it was past its restore, when it was further than the attempt before it, and the work
-- that was lost with it.
ALTER TABLE attempt
  ADD signature text NOT NULL DEFAULT '',
  ADD restored_at timestamptz,
  ADD caught_up_at timestamptz,
  ADD lost_gpu_us bigint NOT NULL DEFAULT 0 CHECK (lost_gpu_us >= 0);

CREATE OR REPLACE VIEW node_service_name(service, name) AS VALUES
  (1::smallint, 'schedulable'), (2, 'cordoned'), (3, 'draining'), (4, 'quarantined'), (5, 'probation'), (6, 'repair'), (7, 'retired');
ALTER TABLE node
  DROP CONSTRAINT node_service_check,
  ADD CONSTRAINT node_service_check CHECK (service BETWEEN 1 AND 7),
  ADD service_at timestamptz,
  ADD service_until timestamptz,
  ADD returns integer NOT NULL DEFAULT 0 CHECK (returns >= 0);
