"""The process beside circusd that tells metrics, Graphite and Sentry what circusd does."""
