"""The command line: one file a verb. What can be tested without a terminal lives elsewhere."""

import gc

# Imports make no garbage: looking for it is a fifth of the time that ckptd takes to start.
gc.set_threshold(50_000)
