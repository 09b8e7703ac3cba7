-- When a node came back from repair last: its returns are counted over four weeks from there.
ALTER TABLE node ADD returned_at timestamptz;
UPDATE node SET returned_at = service_at WHERE returns > 0;

-- Whom a fault speaks against may be taken back: `shared_by` is then set to 0. Where that was told by a row of its own
-- until now, it is done here.
UPDATE fault f SET shared_by = 0
WHERE f.shared_by > 1 AND EXISTS (SELECT FROM fault later
                                  WHERE later.job = f.job AND later.fault_class = 'forgiven' AND later.id > f.id);

-- What the advice on checkpoints counts.
CREATE INDEX fault_serious ON fault (at) WHERE shared_by = 1 OR fault_class = 'node_lost';
