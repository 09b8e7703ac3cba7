-- To answer how things were: what the questions about an earlier time read by (docs/design/0015-history.md).

-- Who was there at a time: of those that ended later, the ones that had been submitted. One index entry as before, 8 bytes
-- longer.
DROP INDEX job_done_ended;
CREATE INDEX job_done_ended ON job_done (ended_at, created_at);

-- Histories are appended in order of time: a summary of each piece of the table is enough, and costs their writers nothing.
CREATE INDEX job_event_at ON job_event USING brin (at) WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX node_event_at ON node_event USING brin (at) WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX fault_at ON fault (at);

-- What changed nodes and GPUs, which is little of what is told of them: the picture of a time is made by taking back all
-- that came after it.
CREATE INDEX node_event_change ON node_event (at) WHERE kind IN ('node', 'service', 'gpu');
CREATE INDEX node_event_inspection ON node_event (node, id) WHERE kind = 'inspection';

-- From when on GPUs that a node reports again, or for the first time, are told in the history. Before, only those that
-- were gone were.
CREATE TABLE history_known (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  since timestamptz NOT NULL DEFAULT now());
INSERT INTO history_known DEFAULT VALUES;
