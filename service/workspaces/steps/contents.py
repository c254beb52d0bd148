"""What the project works on: database, settings, media; and what it prepares of them by itself."""

from service.workspaces import hands
from service.workspaces.record import DONE
from service.workspaces.steps.step import BuildStep
from service.workspaces.work import StepFailed, Work, last_lines

DATABASE_SECONDS = 600.0
PREPARE_SECONDS = 600.0
SHARED = "shared"
NO_STATIC = "Unknown command: 'collectstatic'"


class Database(BuildStep):
    name = "database"

    def check(self, work: Work) -> bool:
        if work.plan.postgres:
            return work.plan.postgres.is_there(work.told, work.slug)
        return work.plan.database == SHARED or work.facts.database

    def apply(self, work: Work) -> None:
        if work.plan.postgres:
            work.plan.postgres.make(work.told, work.slug)
        else:
            work.run(hands.DATABASE, work.plan.database, seconds=DATABASE_SECONDS)

    def undo(self, work: Work) -> None:
        if work.plan.postgres:
            work.plan.postgres.remove(work.told, work.slug)
            work.plan.shelf.forget_password(work.slug)


class Env(BuildStep):
    name = "env"

    def check(self, work: Work) -> bool:
        return work.facts.env and work.record.steps.get(self.name) == DONE

    def apply(self, work: Work) -> None:
        site, record = work.plan.site, work.record
        assert record.port
        hosts = site.hosts(record.slug)
        values = {
            "ALLOWED_HOSTS": ",".join(hosts),
            "CSRF_TRUSTED_ORIGINS": site.address(record.slug, record.port).rstrip("/"),
            "PORT": str(record.port + 1),
        }
        if work.plan.postgres:
            values["DATABASE_URL"] = work.plan.postgres.url_with(
                work.told, record.slug, work.plan.shelf.password(record.slug)
            )
        work.hands.write_env(record.slug, values)

    def verify(self, work: Work) -> None:
        if not work.facts.env:
            raise StepFailed("the .env is not there after it was written")


class Media(BuildStep):
    name = "media"

    def check(self, work: Work) -> bool:
        return work.facts.media

    def apply(self, work: Work) -> None:
        work.hands.link_media(work.slug)

    def undo(self, work: Work) -> None:
        work.hands.unlink_media(work.slug)


class Prepare(BuildStep):
    """Done again at every change of the code."""

    name = "prepare"

    def check(self, work: Work) -> bool:
        return not work.facts.django or work.record.steps.get(self.name) == DONE

    def apply(self, work: Work) -> None:
        if not work.facts.django:
            return
        work.run(hands.MIGRATE, seconds=PREPARE_SECONDS)
        ended = work.attempt(hands.COLLECT_STATIC, seconds=PREPARE_SECONDS)
        if ended.status and NO_STATIC not in ended.output:
            raise StepFailed(f"collectstatic failed: {last_lines(ended.output)}")

    def verify(self, work: Work) -> None:
        """They have said so."""
