"""gunicorn's worker, and what it logs."""
