"""The ledger: one SQLite file that holds everything a campaign did, and views of it."""
