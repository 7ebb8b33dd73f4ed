"""A workspace on disk: typed settings, manifest, batches and their states, cycle, journal, registry, object store. Imports no other room."""
