"""Errors reach Sentry from here. What the rest of the program sees is `Errors`, and `NO_ERRORS` where none is set."""

from service.sentry.errors import NO_ERRORS, Errors, NoErrors

__all__ = ["NO_ERRORS", "Errors", "NoErrors"]
