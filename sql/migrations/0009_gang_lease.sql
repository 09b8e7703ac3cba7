-- How long an attempt goes on without a scheduler while its peers acknowledge each other (0: not at all), and the node
-- outside the gang that is one of them (0: none). Fixed when it is placed: its nodes were told so.
ALTER TABLE attempt
  ADD continue_for_us bigint NOT NULL DEFAULT 0 CHECK (continue_for_us >= 0),
  ADD witness bigint NOT NULL DEFAULT 0;
