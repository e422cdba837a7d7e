r"""A plan inside any diffusers pipeline: the network receives exactly the (t, sigma) of the file.

:func:`scheduler` builds the :class:`SigmaTuneScheduler` that runs a plan in a pipeline.

Diffusers reads this module by its name when it loads a pipeline that was saved with this scheduler, and takes a class
from it if the module also holds ``SchedulerMixin``; ``import sigmatune`` is enough for both.
"""

from __future__ import annotations

import json
import weakref
from typing import Any

from diffusers import SchedulerMixin  # noqa: F401 - diffusers looks for it here

from sigmatune import noise
from sigmatune.interop.carried_config import carried, json_fields
from sigmatune.interop.diffusers_scheduler import SigmaTuneScheduler
from sigmatune.interop.image_start import starting_level
from sigmatune.interop.pipeline_checks import check_clock, check_loop, check_path, converts_schedulers, warn_of_pipeline
from sigmatune.models.network import process_of
from sigmatune.models.prediction_fields import fields_of
from sigmatune.models.scheduler_config import config_of, read_process
from sigmatune.plan import Plan
from sigmatune.plan import file as plan_file

SigmaTuneScheduler.__module__ = __name__  # saved pipelines state this module


def scheduler(plan: Plan, pipe: Any, *, seed: int | None = None, first_index: int = 0) -> SigmaTuneScheduler:
    """Builds the scheduler that runs a plan in a pipeline; assign it to ``pipe.scheduler``.

    Then call the pipeline with ``num_inference_steps=plan.calls``.

    Args:
        plan: The plan, of any solver, deterministic or stochastic, its coefficients learned or not.
        pipe: The pipeline; its present scheduler defines the prediction type and the noise path.
        seed: For a stochastic plan: its noise depends on (seed, row, call) alone, as that of ``sigmatune.sample``, instead of
            on the pipeline's generator.
        first_index: Index of the pipeline's first row in that noise.

    Raises:
        SigmaTuneError: if the plan cannot run in this pipeline; one sentence says why.

    Warns:
        PlanMismatch: if the pipeline itself deviates from the plan: it does not scale its start noise, or rounds t.
    """
    config = config_of(getattr(pipe, "scheduler", pipe))
    spec = {} if plan.path is None else process_of(noise.from_spec(plan.path))
    process = read_process(config, shift=spec["shift"] if spec.get("kind") == "flow" else None)
    if plan.path is None:
        process.path.check(plan.coefficients.q.numpy())
        plan = plan.with_notes(path=process.path.spec())
    path = noise.paired(noise.from_spec(dict(plan.path or {})), plan.pairs)
    check_path(plan, path, process.path)
    check_loop(pipe)
    check_clock(pipe, path, plan.coefficients.q.numpy())
    kind, data, sign = fields_of(process.prediction)
    replaces, fields = carried(config, str(config["_class_name"]))
    built: SigmaTuneScheduler = SigmaTuneScheduler(
        plan=json.loads(plan_file.dumps(plan)),
        prediction_type=kind,
        sigma_data=data,
        edm_sign=sign,
        seed=seed,
        first_index=first_index,
        num_train_timesteps=path.levels,
        replaces=replaces,
    )
    built.register_to_config(**json_fields(fields))
    built.lost_by = converts_schedulers(pipe)
    built._machine.pipe = weakref.ref(pipe)
    warn_of_pipeline(pipe, built.init_noise_sigma, built.timesteps)
    return built


__all__ = ["SigmaTuneScheduler", "scheduler", "starting_level"]
