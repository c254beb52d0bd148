"""A person's private, running copy of a project: made, kept and taken away by tasks."""
