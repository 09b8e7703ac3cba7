-- Why jobs waited: one row whenever the reasons of a job at the head of the queue are others than before, for
-- "explain --at". A record, not state: it may be incomplete, and old rows are dropped.
CREATE TABLE waiting_reason (
  job bigint NOT NULL,
  at timestamptz NOT NULL,
  body text NOT NULL,  -- JSON
  PRIMARY KEY (job, at));
CREATE INDEX waiting_reason_at ON waiting_reason (at);
