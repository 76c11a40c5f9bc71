"""The program fuzzer: random programs, each run plain and stopped at every safe point, in a warm process."""
