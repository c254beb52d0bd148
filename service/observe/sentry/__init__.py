"""Reports errors to Sentry. The rest of the program sees `Errors`, or `NO_ERRORS` where there is no DSN."""

from service.observe.sentry.contract import CLIENTS, NO_ERRORS, Errors, NoErrors, check

__all__ = ["CLIENTS", "NO_ERRORS", "Errors", "NoErrors", "check"]
