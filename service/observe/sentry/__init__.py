"""Errors reach Sentry from here. What the rest of the program sees is `Errors`, and `NO_ERRORS` where none is set."""

from service.observe.sentry.contract import CLIENTS, NO_ERRORS, Errors, NoErrors, check

__all__ = ["CLIENTS", "NO_ERRORS", "Errors", "NoErrors", "check"]
