"""The baseline of a tuned plan, rebuilt from the plan's evidence."""

from __future__ import annotations

from sigmatune import schedules
from sigmatune.plan import Plan
from sigmatune.plan.tuned_for import solver_of
from sigmatune.support.errors import SigmaTuneError
from sigmatune.tuning.workbench import Workbench


def baseline(bench: Workbench, plan: Plan) -> Plan:
    """Rebuilds the static default with which a plan was compared.

    Args:
        bench: A workbench of the plan's model.
        plan: A plan that :func:`sigmatune.tuning.tune_on` made.

    Raises:
        SigmaTuneError: if the plan carries no evidence, or the model has no such default.
    """
    if not plan.evidence:
        raise SigmaTuneError("this plan carries no evidence, so it has no baseline; tune it first.")
    label, solver = plan.evidence["baseline"], solver_of(plan)
    for name, family, options in schedules.defaults(bench.model.path, bench.model.default_schedule):
        if name == label:
            return bench.plan(schedules.build(family, plan.steps, bench.model.path, **options), solver)
    raise SigmaTuneError(f"there is no default called {label!r} for this model.")
