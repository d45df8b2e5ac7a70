"""The faults that `benchmarks/faults.py` injects: each module injects one kind and says what was lost."""
