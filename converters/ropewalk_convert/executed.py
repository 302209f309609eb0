"""What the patched library of this release does not execute of a plan: it refuses to load such a file."""

from __future__ import annotations

from ropewalk_plan.plan import ContextPlan


def not_executed_notes(plan: ContextPlan) -> tuple[str, ...]:
    """A sentence for each part of `plan` that can be made, stored and shown, but not run yet."""
    if any(plan.windows):
        what = "a rolling window with sinks" if plan.streaming else "attention windows"
        return (
            f"The patched library does not execute {what} yet and refuses to load this file: "
            "bake it without them to run it now.",
        )
    return ()
