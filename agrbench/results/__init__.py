"""Records and pure functions of them: storage, metrics, statistics, tables. Nothing here simulates."""
