-- Secrets of projects, which jobs name and get at their launch. The values are sealed with a key that no database
-- has (the scheduler's data/secret): a copy of this table says names and lengths only.
CREATE TABLE secret (
  project text NOT NULL CHECK (project <> ''),
  name text NOT NULL CHECK (name ~ '^[A-Z_][A-Z0-9_]{0,63}$'),
  ciphertext bytea NOT NULL,
  nonce bytea NOT NULL CHECK (length(nonce) = 24),
  version bigint NOT NULL CHECK (version > 0),
  updated_by text NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (project, name));
