"""Where the program is: active loops with their counts, training events, the path to a safe point."""
