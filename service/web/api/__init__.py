"""The calls: a module for each resource, and what their requests are checked by."""
