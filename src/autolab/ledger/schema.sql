-- One file, .autolab/ledger.sqlite. A trial that is done never changes again (trigger below), so
-- ledgers of several labs can be merged as sets.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE campaign (
    id          TEXT PRIMARY KEY,
    task        TEXT NOT NULL,
    key         TEXT NOT NULL,              -- comparability key
    config      TEXT NOT NULL,              -- JSON: budgets, harness, seed, slots, profile
    state       TEXT NOT NULL,              -- running | paused | stopping | stopped | finished | pulled (from another lab)
    baseline    TEXT NOT NULL,              -- program
    noise_sd    REAL,                       -- of one measurement, from replicates of the baseline
    created_at  REAL NOT NULL,
    lab         TEXT NOT NULL DEFAULT ''    -- whose it is; empty: this ledger's own
);

CREATE TABLE program (
    id          TEXT PRIMARY KEY,
    code_hash   TEXT NOT NULL,
    files       BLOB NOT NULL,              -- zlib of JSON {path: text}
    created_at  REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE trial (
    number       INTEGER PRIMARY KEY,       -- of another lab's trial: negative, made from its id
    id           TEXT NOT NULL UNIQUE,
    campaign     TEXT NOT NULL REFERENCES campaign (id),
    ordinal      INTEGER NOT NULL,          -- 0 is the baseline; place in this campaign's sequence
    state        TEXT NOT NULL,             -- open | queued | done
    role         TEXT NOT NULL DEFAULT '',
    agent        TEXT NOT NULL DEFAULT '',
    surface      TEXT NOT NULL DEFAULT '',
    parent_program TEXT,
    parent_trial INTEGER,
    program      TEXT,
    code_hash    TEXT,
    status       TEXT,
    verdict      TEXT,
    score        REAL,
    score_low    REAL,
    score_high   REAL,
    delta        REAL,                      -- against the master it was judged by; positive is better
    repeats      INTEGER,
    proposal     TEXT,                      -- JSON
    note         TEXT NOT NULL DEFAULT '',
    executor     TEXT NOT NULL DEFAULT 'local',
    created_at   REAL NOT NULL,
    finished_at  REAL,
    finish_order INTEGER                    -- 1, 2, 3 ... over the whole ledger, in the order of the views
);
CREATE INDEX trial_by_campaign ON trial (campaign, ordinal);
CREATE UNIQUE INDEX trial_by_finish ON trial (finish_order) WHERE finish_order IS NOT NULL;
CREATE INDEX trial_undone ON trial (campaign, number) WHERE state != 'done';
CREATE INDEX trial_by_status ON trial (campaign, status, verdict);
CREATE INDEX trial_by_score ON trial (campaign, score) WHERE score IS NOT NULL;

-- Two agents never run the same thing: whoever inserts a program's code first has claimed it.
CREATE UNIQUE INDEX trial_claim ON trial (campaign, code_hash)
    WHERE code_hash IS NOT NULL AND repeats IS NULL;

CREATE TRIGGER trial_is_written_once BEFORE UPDATE ON trial WHEN OLD.state = 'done'
BEGIN SELECT RAISE(ABORT, 'a finished trial never changes'); END;
CREATE TRIGGER trial_stays BEFORE DELETE ON trial WHEN OLD.state = 'done'
BEGIN SELECT RAISE(ABORT, 'a finished trial is never deleted'); END;

CREATE TABLE measurement (
    id          TEXT PRIMARY KEY,
    trial       INTEGER NOT NULL REFERENCES trial (number),
    stage       TEXT NOT NULL,              -- screen | replicate | confirm | certify | control-N | again... | replay...
    seed        INTEGER NOT NULL,
    eval_seed   INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    status      TEXT,                       -- NULL until it is finished
    score       REAL,
    record      TEXT NOT NULL,              -- JSON: everything else the runner measured
    started_at  REAL NOT NULL,
    finished_at REAL
) WITHOUT ROWID;
CREATE INDEX measurement_by_trial ON measurement (trial);
CREATE TRIGGER measurement_is_written_once BEFORE UPDATE ON measurement WHEN OLD.status IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a finished measurement never changes'); END;

CREATE TABLE promotion (
    number     INTEGER PRIMARY KEY,
    campaign   TEXT NOT NULL REFERENCES campaign (id),
    trial      INTEGER NOT NULL REFERENCES trial (number),
    program    TEXT NOT NULL REFERENCES program (id),
    replaced   INTEGER,                     -- the promotion before it
    score      REAL NOT NULL,
    score_low  REAL NOT NULL,
    score_high REAL NOT NULL,
    gain       REAL NOT NULL,
    reason     TEXT NOT NULL,
    at         REAL NOT NULL,
    kind       TEXT NOT NULL DEFAULT 'improvement' -- baseline | improvement | simplification | demotion
);
CREATE INDEX promotion_by_campaign ON promotion (campaign, number);

CREATE TABLE steering (
    number   INTEGER PRIMARY KEY,
    campaign TEXT NOT NULL REFERENCES campaign (id),
    text     TEXT NOT NULL,
    at       REAL NOT NULL
);
