"""Executes tasks: fetches entries, judges and claims them, runs handlers, settles outcomes."""
