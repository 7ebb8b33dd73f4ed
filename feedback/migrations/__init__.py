"""How a database of an earlier Vigil becomes one of this: one file a step under `versions`, run by feedback/database.py."""
