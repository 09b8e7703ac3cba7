-- How long an attempt goes on without a scheduler while its peers acknowledge each other (0: not at all), and the node
-- outside the gang that is one of them (0: none). Fixed when it is placed: its nodes were told so.
ALTER TABLE attempt
  ADD continue_for_us bigint NOT NULL DEFAULT 0 CHECK (continue_for_us >= 0),
  ADD witness bigint NOT NULL DEFAULT 0;

-- Of the worker's state directory: a node that registers under this name with another one is another machine, or has
-- been installed anew, and knows nothing of what still runs under the name.
ALTER TABLE node ADD instance text NOT NULL DEFAULT '';
