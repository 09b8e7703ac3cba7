-- Jobs that were submitted in the same words share one text (docs/design/0020-spec-texts.md). A text that comes once
-- stays in its job's own row. The version before reads and writes job_spec.spec_json alone, and goes on doing so: nobody
-- refers to a text while a scheduler of that version is connected.
CREATE TABLE spec_text (
  hash bytea PRIMARY KEY CHECK (octet_length(hash) = 32),  -- BLAKE2b of the text
  spec_json text NOT NULL,
  used_at timestamptz NOT NULL);  -- by a submission, on a day at most a day before the last one
CREATE INDEX spec_text_used ON spec_text (used_at);

LOCK TABLE job_spec IN ACCESS EXCLUSIVE MODE;
ALTER TABLE job_spec
  ADD COLUMN spec_hash bytea,
  ALTER COLUMN spec_json DROP NOT NULL,
  ADD CONSTRAINT job_spec_text CHECK (spec_json IS NOT NULL OR spec_hash IS NOT NULL) NOT VALID;

-- What was submitted, wherever it stands.
CREATE VIEW job_text AS
  SELECT p.id, p.owner, p.name, coalesce(p.spec_json, t.spec_json) AS spec_json, p.created_at, p.initial_state,
         p.changed_json
  FROM job_spec p LEFT JOIN spec_text t ON t.hash = p.spec_hash;

-- Texts that no job has any more. `used_at` alone would tell, were no clock ever set back; so the jobs are asked as well,
-- when there is a text that may go.
CREATE FUNCTION tutti_forget_texts(most integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  old bytea[];
  gone bigint;
BEGIN
  SELECT array_agg(hash) INTO old FROM (
    SELECT hash FROM spec_text
    WHERE used_at < least(now(), (SELECT created_at FROM job_spec ORDER BY id LIMIT 1)) - interval '2 days'
    ORDER BY used_at LIMIT most) unused;
  IF old IS NULL THEN
    RETURN 0;
  END IF;
  DELETE FROM spec_text t WHERE t.hash = ANY (old)
    AND NOT EXISTS (SELECT FROM job_spec p WHERE p.spec_hash = t.hash);
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END $$;

-- What a hand could write and no reader makes sense of. Rows that are there are not looked at: the scheduler takes them as well
-- as it can. The locks come in the order in which commits take them.
ALTER TABLE node ADD CONSTRAINT node_labels_are_texts
  CHECK (NOT jsonb_path_exists(labels, '$.* ? (@.type() != "string")')) NOT VALID;
ALTER TABLE project ADD CONSTRAINT project_weight_is_a_number CHECK (weight > 0 AND weight < 'Infinity') NOT VALID;
ALTER TABLE reservation ADD CONSTRAINT reservation_names_are_texts
  CHECK (NOT jsonb_path_exists(nodes, '$[*] ? (@.type() != "string")') AND
         NOT jsonb_path_exists(projects, '$[*] ? (@.type() != "string")')) NOT VALID;
