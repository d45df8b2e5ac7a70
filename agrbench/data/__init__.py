"""Data files: found, fetched, checked and read. New file formats go here."""
