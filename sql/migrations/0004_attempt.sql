-- Runs of a job, the GPUs they hold, the checkpoints they leave.

CREATE TABLE attempt (
  job bigint NOT NULL CHECK (job > 0),
  epoch bigint NOT NULL CHECK (epoch > 0),
  number integer NOT NULL CHECK (number >= 1),
  state smallint NOT NULL CHECK (state BETWEEN 1 AND 6),
  result smallint NOT NULL CHECK (result BETWEEN 0 AND 3),
  cause smallint NOT NULL CHECK (cause BETWEEN 0 AND 17),
  detail text NOT NULL,
  evidence_json text NOT NULL,
  gang jsonb NOT NULL,
  resume_path text NOT NULL,
  resume_step bigint NOT NULL,
  last_step bigint NOT NULL,
  exit_code integer NOT NULL,
  placed_at timestamptz, preflight_at timestamptz, starting_at timestamptz, running_at timestamptz,
  fault_at timestamptz, stopping_at timestamptz, ended_at timestamptz,
  PRIMARY KEY (job, epoch),
  CONSTRAINT attempt_ended_at CHECK ((state = 6) = (ended_at IS NOT NULL)),
  CONSTRAINT attempt_ended_result CHECK ((state = 6) = (result <> 0)),
  CONSTRAINT attempt_cause CHECK (result NOT IN (2, 3) OR cause <> 0))
  WITH (fillfactor = 70);
-- What a new leader reads back. Attempts are thousands where jobs are millions: the index is small.
CREATE INDEX attempt_open ON attempt (job) WHERE state <> 6;

-- A GPU held by an attempt over [from_at, until_at); until_at NULL = still held. The exclusion constraint is
-- the last word on "one owner per GPU": whatever the scheduler believes, the second owner is refused here.
CREATE TABLE allocation (
  job bigint NOT NULL CHECK (job > 0),
  epoch bigint NOT NULL CHECK (epoch > 0),
  gpu bigint NOT NULL CHECK (gpu > 0),
  from_at timestamptz NOT NULL,
  until_at timestamptz CHECK (until_at >= from_at),
  PRIMARY KEY (job, epoch, gpu),
  CONSTRAINT allocation_one_owner
    EXCLUDE USING gist (int8range(gpu, gpu, '[]') WITH &&, tstzrange(from_at, until_at) WITH &&));
CREATE UNIQUE INDEX allocation_open ON allocation (gpu) WHERE until_at IS NULL;

CREATE TABLE checkpoint (
  job bigint NOT NULL CHECK (job > 0),
  epoch bigint NOT NULL CHECK (epoch > 0),
  step bigint NOT NULL CHECK (step >= 0),
  path text NOT NULL CHECK (path <> ''),
  bytes bigint NOT NULL,
  shards integer NOT NULL,
  at timestamptz NOT NULL);
-- By digest: a path may be longer than an index entry.
CREATE UNIQUE INDEX checkpoint_path ON checkpoint (job, md5(path));
