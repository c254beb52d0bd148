"""What the steward says no with."""


class Refused(Exception):
    """The request is not granted, or cannot be done; the text says why, and is for whoever asked."""
