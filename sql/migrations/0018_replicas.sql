-- Who has led, who leads, and whether a former leader may still renew leases (docs/design/0016-replicas.md). The fence itself
-- stays in `leader`: this table is read by standbys and by people, no commit looks at it.
CREATE TABLE leader_term (
  term bigint PRIMARY KEY CHECK (term > 0),
  holder text NOT NULL,
  url text NOT NULL,        -- where its leader is reached; '' = it does not say
  instance text NOT NULL,   -- its data directory; a process that starts there knows that the one before is dead
  key_print text NOT NULL,  -- of the secrets that replicas share
  renews_us bigint NOT NULL CHECK (renews_us >= 0),  -- so long its leader renews leases without the store
  began_at timestamptz NOT NULL,
  over_at timestamptz);     -- it renews none from then on; NULL: it leads, or nobody knows
