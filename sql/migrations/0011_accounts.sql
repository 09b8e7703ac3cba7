-- Who may do what, and who did. Beside the scheduling rows: nothing here is read while planning.

-- Raised by every change, so that a scheduler that keeps accounts in memory sees what another one has changed.
CREATE TABLE account_revision (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  revision bigint NOT NULL);
INSERT INTO account_revision (revision) VALUES (1);

-- A change is decided on what a scheduler has in memory, which is one revision. If that is not the newest any more,
-- nothing is written (40001: read again, decide again).
CREATE FUNCTION raise_account_revision(expected bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  UPDATE account_revision SET revision = revision + 1 WHERE revision = expected;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'accounts were changed since revision %', expected USING ERRCODE = 'serialization_failure';
  END IF;
  RETURN expected + 1;
END $$;

CREATE TABLE account (
  name text COLLATE "C" PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 128),
  password_hash text NOT NULL DEFAULT '',  -- argon2id with its own salt and costs; '' = none: no login by password
  disabled boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL,
  created_by text NOT NULL);

CREATE TABLE account_role (
  account text COLLATE "C" NOT NULL REFERENCES account (name) ON DELETE CASCADE,
  project text NOT NULL CHECK (project <> ''),  -- '*' = everywhere
  role smallint NOT NULL CHECK (role BETWEEN 1 AND 4),
  PRIMARY KEY (account, project));

-- What is shown once as PREFIX_ID_SECRET; stored is the SHA-256 of the secret, which has 256 bits of chance.
CREATE TABLE api_token (
  id text COLLATE "C" PRIMARY KEY,
  account text COLLATE "C" NOT NULL,
  name text NOT NULL,
  secret_hash text NOT NULL CHECK (length(secret_hash) = 64),
  scopes smallint NOT NULL CHECK (scopes BETWEEN 1 AND 15),
  created_at timestamptz NOT NULL,
  expires_at timestamptz,
  last_used_at timestamptz,
  last_used_from text NOT NULL DEFAULT '',
  revoked_at timestamptz);
CREATE INDEX api_token_account ON api_token (account);

CREATE TABLE console_session (
  id text COLLATE "C" PRIMARY KEY,
  account text COLLATE "C" NOT NULL REFERENCES account (name) ON DELETE CASCADE,
  secret_hash text NOT NULL CHECK (length(secret_hash) = 64),
  created_at timestamptz NOT NULL,
  seen_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  opened_from text NOT NULL);

-- With one of these a node gets its own credential.
CREATE TABLE join_token (
  id text COLLATE "C" PRIMARY KEY,
  secret_hash text NOT NULL CHECK (length(secret_hash) = 64),
  node text NOT NULL DEFAULT '',  -- '' = any
  uses_left integer NOT NULL CHECK (uses_left >= 0),
  created_at timestamptz NOT NULL,
  created_by text NOT NULL,
  expires_at timestamptz NOT NULL);

CREATE TABLE node_credential (
  id text COLLATE "C" PRIMARY KEY,
  node text NOT NULL,
  secret_hash text NOT NULL CHECK (length(secret_hash) = 64),
  created_at timestamptz NOT NULL,
  joined_from text NOT NULL,
  revoked_at timestamptz);

-- Every change that somebody asked for, done or refused.
CREATE TABLE audit (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL,
  who text NOT NULL,
  credential text NOT NULL,
  came_from text NOT NULL,
  action text NOT NULL,   -- name of the route: "jobs.cancel"
  target text NOT NULL,   -- its path parameters: "12"
  status smallint NOT NULL,
  before_json text NOT NULL,  -- '' = not known or nothing
  after_json text NOT NULL);
CREATE INDEX audit_who ON audit (who, id);
CREATE INDEX audit_target ON audit (target, id);
CREATE INDEX audit_at ON audit (at);
