"""When things run: Prefect flows, publishing to MLflow, schedules. No domain logic. May import every room but `vigil`."""
