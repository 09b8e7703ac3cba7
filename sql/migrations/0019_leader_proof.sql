-- When a leader has last written that it leads, while it had nothing else to write: a read would be answered by a server that
-- was replaced and does not know it (docs/design/0016-replicas.md).
ALTER TABLE leader_term ADD COLUMN proven_at timestamptz;
