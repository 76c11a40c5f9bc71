"""``ckptd prove``: whether the user's own command is the same with and without interruptions."""
