"""`vigil upgrade`: the workspace's files and its feedback database together, under the lease."""

from pathlib import Path

from workspace.lease import lease, serving_alone
from workspace.upgrade import Upgrade, apply_upgrade, plan_upgrade, uncommitted, with_database


def upgrade_workspace(root: Path, dry_run: bool) -> Upgrade:
    """What changes, or would; done when this returns, unless it is a dry run.

    Raises LeaseHeldError while somebody writes to the workspace, and where something changes while it is served: a service knows the tables it began with.
    """
    if dry_run:
        return _whole_plan(root)
    from feedback.database import Database

    with lease(root, "upgrade"):
        plan = _whole_plan(root)

        def migrate() -> None:
            if "feedback.db" in plan.changes:
                Database(root, plan.settings).close()  # opening it brings it up to date, in one transaction

        if plan.changes or uncommitted(root):
            with serving_alone(root, "upgrade", "This workspace is served. Nothing was changed."):
                apply_upgrade(root, plan, migrate)
        return plan


def _whole_plan(root: Path) -> Upgrade:
    from feedback.database import file_of, schema_behind

    plan = plan_upgrade(root)
    if not (behind := schema_behind(root, plan.settings)):
        return plan
    return with_database(root, plan, [f"schema {behind[0]} -> {behind[1]}"], file_of(root, plan.settings))
