"""The page of a sweep: its statistics, tables and drawings."""
