"""Task types for the bench of limits."""

from service import Context, task


@task("limited", limits=("bench",))
def limited(context: Context, key: str = "") -> None: ...
