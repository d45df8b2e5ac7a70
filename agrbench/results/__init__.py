"""Records, and pure functions of records: storage, metrics, statistics, tables. Nothing here simulates."""
