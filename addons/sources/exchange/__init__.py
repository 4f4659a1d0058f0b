"""How processes share limits: workers by files and a database, replicas by Redis."""
