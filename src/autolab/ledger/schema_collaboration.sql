-- Who works with whom, and what is claimed. Since schema 5.

-- What a collaboration asked of a trial when it was opened: enough to go on with the collaboration after a crash.
CREATE TABLE IF NOT EXISTS assignment (
    trial         INTEGER PRIMARY KEY REFERENCES trial (number),
    collaboration TEXT NOT NULL,
    record        TEXT NOT NULL             -- JSON of collaboration.Assignment
);

-- What colleagues tell each other: handovers in a team, learnings and concerns of workers, plans of planners.
CREATE TABLE IF NOT EXISTS handover (
    number   INTEGER PRIMARY KEY,
    campaign TEXT NOT NULL REFERENCES campaign (id),
    trial    INTEGER REFERENCES trial (number),
    round    TEXT NOT NULL,                 -- of the collaboration; empty outside of rounds
    role     TEXT NOT NULL,
    surface  TEXT NOT NULL,
    kind     TEXT NOT NULL,                 -- handover | learning | concern | plan
    text     TEXT NOT NULL,
    at       REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS handover_by_campaign ON handover (campaign, round, number);

-- What a trial set out to do, so that nobody else does the same: beside trial.code_hash, which names the program.
CREATE TABLE IF NOT EXISTS claim (
    trial     INTEGER PRIMARY KEY REFERENCES trial (number),
    campaign  TEXT NOT NULL,
    edit_hash TEXT NOT NULL DEFAULT '',     -- of the edits, whatever they are applied to
    constants TEXT NOT NULL DEFAULT '',     -- JSON: constants that change, [name, from, to], sorted; empty: other changes too
    touched   TEXT NOT NULL DEFAULT '',     -- what the edits change: constants by name, other lines by hash; with spaces
    sketch    INTEGER NOT NULL DEFAULT 0,   -- SimHash of the hypothesis' words
    lease_until REAL                        -- an open trial's; NULL once it is queued
);
CREATE INDEX IF NOT EXISTS claim_by_edit ON claim (campaign, edit_hash) WHERE edit_hash != '';
CREATE INDEX IF NOT EXISTS claim_by_constants ON claim (campaign, constants) WHERE constants != '';
CREATE INDEX IF NOT EXISTS claim_by_sketch ON claim (campaign, trial, sketch);

-- Hypotheses as points, if an endpoint for that is set up: float16, of length 1.
CREATE TABLE IF NOT EXISTS embedding (
    trial  INTEGER PRIMARY KEY REFERENCES trial (number),
    model  TEXT NOT NULL,
    vector BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS embedding_by_model ON embedding (model, trial);

-- What a lineage slice asks, by the trials that were opened last: of a campaign, of a surface, of a parent.
CREATE INDEX IF NOT EXISTS trial_by_state ON trial (campaign, state, ordinal);
CREATE INDEX IF NOT EXISTS trial_by_surface ON trial (campaign, surface, state, ordinal);
CREATE INDEX IF NOT EXISTS trial_by_parent ON trial (parent_trial, state);
CREATE INDEX IF NOT EXISTS trial_best_of_surface ON trial (campaign, surface, score, ordinal) WHERE score IS NOT NULL;
CREATE INDEX IF NOT EXISTS idea_open ON idea (campaign, rank, number) WHERE state = 'open';
