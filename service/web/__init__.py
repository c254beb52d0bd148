"""Answers HTTP: the Flask application, and who may ask it."""
