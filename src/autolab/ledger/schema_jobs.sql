-- What runs in the cloud. Since schema 3; an older ledger gets all of this when it is opened.

-- A row is written before its job is launched, so that a launch whose answer is lost is found again by its ticket.
CREATE TABLE IF NOT EXISTS job (
    ticket          TEXT PRIMARY KEY,       -- the label by which the Hub knows the launch
    measurement     TEXT NOT NULL,
    campaign        TEXT NOT NULL REFERENCES campaign (id),
    launch          INTEGER NOT NULL,       -- 1, 2, … of this measurement
    bundle          TEXT NOT NULL,          -- SHA-256 of what was sent
    id              TEXT,                   -- the Hub's; NULL until the launch was answered
    flavor          TEXT NOT NULL,
    stage           TEXT NOT NULL,          -- LAUNCHING, or the Hub's: SCHEDULING, RUNNING, COMPLETED, …
    most_usd        REAL NOT NULL,          -- what it can cost: its whole time limit
    cost_usd        REAL,                   -- what it did cost; NULL until it ended
    running_seconds REAL NOT NULL,
    launched_at     REAL NOT NULL,
    ended_at        REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS job_by_measurement ON job (measurement, launch);
CREATE INDEX IF NOT EXISTS job_by_campaign ON job (campaign, ended_at, cost_usd, most_usd);  -- sums need no row

-- Was the same program measured before?
CREATE INDEX IF NOT EXISTS trial_by_program ON trial (program) WHERE program IS NOT NULL;
