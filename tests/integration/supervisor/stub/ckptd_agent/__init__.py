"""Stands in for the agent where a test's program speaks the protocol itself (CKPTD_AGENT_PATH)."""
