"""The version of this client. It is the service's: both are released together."""

__version__ = "0.1.0"
