"""The graph of plain data that is reachable from the user's frames: captured, and grafted back in place."""
