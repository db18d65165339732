"""The headless harness: real OpenCode sessions, each in a sandbox, behind a gateway to the model."""
