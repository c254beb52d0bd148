"""Puts a release on hosts. docs/deploy.md is the map of these modules; `fabfile.py` is all that calls them."""
