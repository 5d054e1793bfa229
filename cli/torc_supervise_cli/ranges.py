"""How much of something may be asked for on a command line."""

MOST = 1_000_000  # of anything that is counted: more than any machine has
LEAST_GB = 0.001
MOST_GB = 1e9  # an exbibyte nearly; larger numbers of bytes do not go into JSON
