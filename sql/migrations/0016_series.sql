-- What was measured of GPUs and told by ranks, for GET .../metrics. A row holds one owner's measurements of one block of
-- time in steps of `seconds` (10: half an hour, 60: three hours, 600: a day), packed (scheduler/core/series_codec); what
-- comes later is appended. A record, not state: it may be incomplete, and old rows are dropped.
CREATE TABLE series_block (
  kind smallint NOT NULL CHECK (kind IN (1, 2)),  -- 1 a node: items are its GPUs; 2 an attempt: items are its ranks
  owner bigint NOT NULL CHECK (owner > 0),        -- the node, or the job
  epoch bigint NOT NULL CHECK ((epoch > 0) = (kind = 2)),
  seconds integer NOT NULL CHECK (seconds IN (10, 60, 600)),
  at timestamptz NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (kind, owner, epoch, seconds, at)
) WITH (fillfactor = 70);
CREATE INDEX series_block_at ON series_block (seconds, at);
