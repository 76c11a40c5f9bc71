"""Getting hold of the user's code: which modules are the user's, and how they are rewritten."""
