-- What the judge looks at: each scored measurement in brief, and what it concluded.

CREATE TABLE observation (
    measurement TEXT PRIMARY KEY,
    campaign    TEXT NOT NULL REFERENCES campaign (id),
    program     TEXT NOT NULL,
    host        TEXT NOT NULL,
    score       REAL NOT NULL,
    at          INTEGER NOT NULL,           -- ordinal of the trial for which it was made
    stage       TEXT NOT NULL,
    fresh       INTEGER NOT NULL            -- 0: a copy of an earlier measurement, no evidence of how much scores scatter
) WITHOUT ROWID;
CREATE INDEX observation_by_program ON observation (campaign, program, at);
CREATE INDEX observation_by_time ON observation (campaign, at);

-- A test that has ended well, while its trial is still measured for the report. It holds against that promotion's
-- program only: if another one becomes master meanwhile, the test goes on against that.
CREATE TABLE decision (
    trial     INTEGER PRIMARY KEY REFERENCES trial (number),
    promotion INTEGER NOT NULL,
    verdict   TEXT NOT NULL,
    note      TEXT NOT NULL,
    estimates INTEGER NOT NULL              -- how many confirm measurements there were before
);

-- The master as it is seen now: estimated anew with every measurement that was made after it was selected.
CREATE TABLE standing (
    campaign  TEXT PRIMARY KEY REFERENCES campaign (id),
    promotion INTEGER NOT NULL,
    score     REAL NOT NULL,
    low       REAL NOT NULL,
    high      REAL NOT NULL,
    runs      INTEGER NOT NULL,
    gain      REAL,                         -- over the program that it replaced; NULL for the baseline
    gain_se   REAL,
    gain_half REAL,                         -- half of its 95 % interval
    noise_sd  REAL NOT NULL,
    noise_df  INTEGER NOT NULL
) WITHOUT ROWID;

-- Every look at the sealed split, whatever came of it.
CREATE TABLE sealed_look (
    number      INTEGER PRIMARY KEY,
    campaign    TEXT NOT NULL REFERENCES campaign (id),
    trial       INTEGER NOT NULL REFERENCES trial (number),
    measurement TEXT NOT NULL UNIQUE,
    asked_by    TEXT NOT NULL,              -- promotion | hand
    status      TEXT NOT NULL,
    score       REAL,
    at          REAL NOT NULL
);
