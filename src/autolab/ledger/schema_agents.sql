-- What agents add. Since schema 2; a ledger of schema 1 gets these tables when it is opened.

-- Who works where: one row for each trial that an agent opened and edits in a workspace.
CREATE TABLE IF NOT EXISTS workspace (
    trial       INTEGER PRIMARY KEY REFERENCES trial (number),
    path        TEXT NOT NULL,
    session     TEXT NOT NULL,              -- the host's id of the agent's session; empty if unknown
    idea        INTEGER REFERENCES idea (number),
    opened_at   REAL NOT NULL,
    lease_until REAL NOT NULL               -- after that the trial counts as abandoned
);
CREATE INDEX IF NOT EXISTS workspace_by_session ON workspace (session);

-- Changes that somebody thought worth trying, with where they come from.
CREATE TABLE IF NOT EXISTS idea (
    number   INTEGER PRIMARY KEY,
    campaign TEXT NOT NULL REFERENCES campaign (id),
    rank     REAL NOT NULL,                 -- the lowest is next
    surface  TEXT NOT NULL,
    change   TEXT NOT NULL,                 -- the single change that it suggests
    claim    TEXT NOT NULL,                 -- what its source says of it
    source   TEXT NOT NULL,                 -- arXiv id or address; empty for an idea of one's own
    effect   TEXT NOT NULL,
    author   TEXT NOT NULL,                 -- role
    state    TEXT NOT NULL,                 -- open | taken | tried | refuted | adopted | dropped
    trial    INTEGER REFERENCES trial (number),
    note     TEXT NOT NULL,
    at       REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS idea_by_rank ON idea (campaign, rank, number);

-- What one session of a model cost, and how it ended.
CREATE TABLE IF NOT EXISTS agent_session (
    number     INTEGER PRIMARY KEY,
    campaign   TEXT NOT NULL REFERENCES campaign (id),
    trial      INTEGER REFERENCES trial (number),
    role       TEXT NOT NULL,
    agent      TEXT NOT NULL,
    model      TEXT NOT NULL,
    tokens_in  INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL,
    requests   INTEGER NOT NULL,
    retries    INTEGER NOT NULL,
    cost_usd   REAL NOT NULL,
    seconds    REAL NOT NULL,
    outcome    TEXT NOT NULL,               -- answered | no_answer | timeout | silent | model_error | died | cancelled
    note       TEXT NOT NULL,
    at         REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS agent_session_by_trial ON agent_session (trial);
CREATE INDEX IF NOT EXISTS agent_session_by_campaign ON agent_session (campaign, role);
