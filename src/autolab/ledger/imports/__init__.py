"""Campaigns that other loops ran, read from the tables that they left, for the audit; nothing enters the ledger."""
