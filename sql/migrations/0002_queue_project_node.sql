-- What changes rarely: queues, projects, machines and their devices.

CREATE TABLE queue (
  name text PRIMARY KEY CHECK (name <> ''),
  created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE project (
  name text PRIMARY KEY CHECK (name <> ''),
  created_at timestamptz NOT NULL DEFAULT now());
INSERT INTO queue (name) VALUES ('default');
INSERT INTO project (name) VALUES ('default');

CREATE TABLE node (
  id bigint PRIMARY KEY CHECK (id > 0),
  name text NOT NULL UNIQUE CHECK (name <> ''),
  queue text NOT NULL,
  address text NOT NULL,
  boot_id text NOT NULL,
  worker_version text NOT NULL,
  state smallint NOT NULL CHECK (state BETWEEN 1 AND 3),
  service smallint NOT NULL CHECK (service BETWEEN 1 AND 5),
  service_reason text NOT NULL,
  cpus integer NOT NULL,
  memory_bytes bigint NOT NULL,
  kill_mode text NOT NULL,
  driver text NOT NULL,
  simulated_gpus boolean NOT NULL,
  labels jsonb NOT NULL CHECK (jsonb_typeof(labels) = 'object'),
  registered_at timestamptz,
  state_at timestamptz);

-- `free` and `allocated` are not here: they are derived from allocation.
CREATE TABLE gpu (
  id bigint PRIMARY KEY CHECK (id > 0),
  node bigint NOT NULL REFERENCES node,
  uuid text NOT NULL UNIQUE CHECK (uuid <> ''),
  gpu_index integer NOT NULL,
  model text NOT NULL,
  memory_bytes bigint NOT NULL,
  pci text NOT NULL,
  island integer NOT NULL,
  health smallint NOT NULL CHECK (health BETWEEN 1 AND 3),
  health_reason text NOT NULL,
  present boolean NOT NULL);
