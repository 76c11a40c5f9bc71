"""The command line: one file a verb. What can be tested without a terminal lives elsewhere."""
