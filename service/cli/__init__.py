"""Where processes begin: the command `sandbox`, gunicorn, and the wiring of settings to objects."""
