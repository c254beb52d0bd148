"""The chain from a push to production: its task types, with real git and a program in the place of fab."""
