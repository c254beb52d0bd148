"""The Redis that comes with the project, its fsync, its backup."""
