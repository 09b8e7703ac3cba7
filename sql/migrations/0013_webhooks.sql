-- Who is told of what happens, and the outbox of what is still to be said (docs/design/0012-webhooks.md).

CREATE VIEW delivery_state_name(state, name) AS VALUES
  (1::smallint, 'waiting'), (2, 'delivered'), (3, 'dead');

CREATE TABLE webhook (
  name text PRIMARY KEY CHECK (name <> ''),
  url text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('json', 'slack')),
  events jsonb NOT NULL CHECK (jsonb_typeof(events) = 'array'),
  projects jsonb NOT NULL CHECK (jsonb_typeof(projects) = 'array'),  -- empty = all
  secret text NOT NULL,  -- sealed with a key that is not in the database
  enabled boolean NOT NULL,
  after_event bigint NOT NULL,  -- it is told of later ones only
  created_at timestamptz NOT NULL,
  changed_at timestamptz NOT NULL,
  changed_by text NOT NULL);

-- One row: events up to here have their deliveries.
CREATE TABLE webhook_cursor (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  event bigint NOT NULL);
INSERT INTO webhook_cursor (event)
SELECT greatest((SELECT max(id) FROM job_event), (SELECT max(id) FROM node_event), 0);

-- An event is told to a webhook once, whoever reads it again.
CREATE TABLE webhook_delivery (
  event bigint NOT NULL,
  webhook text NOT NULL REFERENCES webhook ON DELETE CASCADE,
  state smallint NOT NULL CHECK (state BETWEEN 1 AND 3),
  notice text NOT NULL,
  job bigint NOT NULL,  -- 0 = none
  body text NOT NULL,   -- the same at every attempt
  attempts integer NOT NULL CHECK (attempts >= 0),
  created_at timestamptz NOT NULL,
  next_at timestamptz NOT NULL,
  ended_at timestamptz,
  status integer NOT NULL,  -- of the last answer; 0 = none
  error text NOT NULL,
  PRIMARY KEY (webhook, event),
  CONSTRAINT webhook_delivery_ended CHECK ((state = 1) = (ended_at IS NULL)));
CREATE INDEX webhook_delivery_due ON webhook_delivery (webhook, next_at, event) WHERE state = 1;
CREATE INDEX webhook_delivery_ended_at ON webhook_delivery (ended_at) WHERE state <> 1;
