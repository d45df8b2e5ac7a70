"""The regression gate: compare the records of BASE and HEAD, and report whether HEAD is worse."""
