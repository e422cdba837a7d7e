r"""Runs a plan in every pipeline class of diffusers: ``python tools/clients/diffusers_pipelines.py --checkout DIR``.

DIR is a checkout of https://github.com/huggingface/diffusers (``git clone --depth 1``); its tests know how to build each
pipeline from small parts (``get_dummy_components``) and how to call it (``get_dummy_inputs``). The pipelines themselves are
those of the installed diffusers. What the hub alone has is replaced by :mod:`diffusers_placeholders`; a pipeline that needs
more is listed with what is missing.

In each pipeline a plan of four calls (DPM++ 2M on trailing levels) runs in place of its scheduler, and the tool records

* pairs: the t of every call at the network, against the plan's t (``t_off``, relative, the largest);
* loop: the end of the pipeline's latents, against the plan's state machine run on the outputs that the pipeline's network gave
  (``loop_off``, relative to the largest value of the end);
* sample: that end against ``st.sample`` of ``st.load(pipe, ...)``, from the same start noise (``sample_off``), or why
  ``st.load`` refuses the pipeline.

Written to ``benchmarks/results/clients_diffusers.json`` after each pipeline; ``--only`` adds to what is there.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import datetime
import gc
import inspect
import json
import signal
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import torch
import transformers
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers_cases import STEPS, inputs_of, redrawn, shift_of, testers
from diffusers_placeholders import NotHere, offline

import sigmatune as st
from sigmatune.core.denoiser import Denoiser
from sigmatune.core.loop import run
from sigmatune.models.capture import network_of
from sigmatune.models.scheduler_config import config_of, read_process
from sigmatune.support.errors import SigmaTuneError, reason
from sigmatune.support.files import write_text

ROOT = Path(__file__).resolve().parents[2]
OURS = {"num_inference_steps", "generator", "output_type", "return_dict", "timesteps", "sigmas", "latents", "prompt",
        "class_labels", "eta", "strength"}  # fmt: skip
"""Arguments of a call that the plan replaces, or that have another name in ``st.load``."""


class TooLong(BaseException):
    """A pipeline that takes more than the seconds of ``--limit``."""


def _alarm(*_: Any) -> None:
    raise TooLong("more than the seconds of --limit")


@dataclass
class Seen:
    """What happened in a run: per call the t at the network, the output with guidance, and the latents before and after."""

    times: list[list[float]] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)
    before: list[torch.Tensor] = field(default_factory=list)
    after: list[torch.Tensor] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)


def watched(pipe: Any, given: dict[str, Any]) -> Seen:
    """Runs the pipeline with the plan and records it."""
    seen, scheduler = Seen(), pipe.scheduler
    plain = type(scheduler).step

    def step(self: Any, output: torch.Tensor, t: Any, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if self is not scheduler:  # a copy, which LTX-2 makes for the sound
            return plain(self, output, t, sample, *args, **kwargs)
        seen.times.append(list(seen.pending))
        seen.pending.clear()
        seen.outputs.append(output.clone())
        seen.before.append(sample.clone())
        found = plain(self, output, t, sample, *args, **kwargs)
        seen.after.append((found[0] if isinstance(found, tuple) else found.prev_sample).clone())
        return found

    def keep(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        t = next((bound[name] for name in ("timestep", "timesteps", "t") if bound.get(name) is not None), None)
        if t is not None:
            seen.pending.append(float(torch.as_tensor(t).reshape(-1)[-1]))

    step.__signature__ = inspect.signature(plain)
    parts = [
        part
        for name in ("transformer", "unet", "transformer_2")
        if isinstance(part := getattr(pipe, name, None), torch.nn.Module)
    ]
    hooks = [part.register_forward_pre_hook(keep, with_kwargs=True) for part in parts]
    try:
        with mock.patch.object(type(scheduler), "step", step), torch.no_grad():
            pipe(**given)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


class Replay(Denoiser):
    """Gives the estimates of the data that the outputs of a recorded run mean."""

    def __init__(self, seen: Seen, model_path: Any, prediction: Any) -> None:
        self.seen, self.path, self.prediction, self.call = seen, model_path, prediction, 0
        self.shape, self.dtype = tuple(seen.before[0].shape[1:]), torch.float64

    def denoise(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        x, output = self.seen.before[self.call].double(), self.seen.outputs[self.call].double()
        output = output[:, : x.shape[1]] if output.shape[1:] != x.shape[1:] else output
        self.call += 1
        level = sigma.reshape(-1, *[1] * (z.ndim - 1))
        found: torch.Tensor = self.prediction.x0(output, x, level).reshape(z.shape)
        return found

    def fingerprint(self) -> str:
        return "replay"


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference relative to the largest value."""
    if found.shape != expected.shape:
        expected = expected.reshape(found.shape)
    scale = max(float(expected.abs().max()), 1e-6)
    return float((found.double() - expected.double()).abs().max()) / scale


def started(noise: torch.Tensor) -> Any:
    """Makes the state machine draw this noise."""
    return mock.patch("sigmatune.core.loop.rng.noise", lambda *_, dtype=torch.float32, **__: noise.to(dtype))


def examined(tester_class: Any) -> dict[str, Any]:
    """One row of the table."""
    tester = tester_class()
    # Images are encoded with noise, which would differ from run to run.
    exact = mock.patch.object(DiagonalGaussianDistribution, "sample", lambda posterior, *_, **__: posterior.mode())
    with warnings.catch_warnings(), exact:
        warnings.simplefilter("ignore")
        for method in ("setup_method", "setUp"):
            if hasattr(tester, method):
                getattr(tester, method)()
        pipe = tester.pipeline_class(**tester.get_dummy_components())
        pipe.set_progress_bar_config(disable=True)
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval()  # dropout of a text encoder would change the prompt from run to run
        network = network_of(pipe)
        redrawn(network)
        given = inputs_of(tester, pipe)
        own = pipe.scheduler
        process = read_process(config_of(own), shift=shift_of(pipe, given))
        given = inputs_of(tester, pipe)
        plan = st.compile_plan(st.build_schedule("uniform-trailing", STEPS, process.path), "dpmpp2m").with_notes(
            path=process.path.spec()
        )
        pipe.scheduler = made = st.interop.diffusers.scheduler(plan, pipe)
        try:
            seen = watched(pipe, given)
            row = compared(made, plan, process, seen)
        finally:
            pipe.scheduler = own
        return {**row, **sampled(tester, pipe, plan, made, seen)}


def compared(made: Any, plan: st.Plan, process: Any, seen: Seen) -> dict[str, Any]:
    """The pairs at the network and the end of the loop."""
    q = plan.coefficients.q.numpy()
    times = [float(t) for t in process.path.time(q)]
    if len(seen.times) != plan.calls:
        return {"calls": len(seen.times)}
    levels = float(process.path.levels)
    # t itself, tau, or either of them backwards
    clocks = (lambda t: t, lambda t: t * levels, lambda t: levels - t * levels, lambda t: levels - t)
    clock = min(clocks, key=lambda read: abs(read(seen.times[0][0]) - times[0]) if seen.times[0] else 0)
    off = max(
        (abs(clock(t) - want) / max(want, 1.0) for said, want in zip(seen.times, times, strict=True) for t in said),
        default=None,
    )
    eps = seen.before[0].double() / made.init_noise_sigma
    state = [float(weight) * eps for weight in plan.coefficients.start[:, 0]]
    end = run(plan.coefficients, Replay(seen, process.path, process.prediction), indices=range(len(eps)), state=state)
    return {
        "calls": plan.calls,
        "evaluations": sum(map(len, seen.times)),
        "latents": list(seen.before[0].shape),
        "dtype": str(seen.before[0].dtype).removeprefix("torch."),
        "edited": any(not torch.equal(x, y) for x, y in zip(seen.before[1:], seen.after[:-1], strict=True)),
        "t_off": off,
        "loop_off": relative(seen.after[-1], end),
    }


def sampled(tester: Any, pipe: Any, plan: st.Plan, made: Any, seen: Seen) -> dict[str, Any]:
    """The end of ``st.sample`` with the loaded pipeline."""
    given = inputs_of(tester, pipe)
    call = {name: value for name, value in given.items() if name not in OURS}
    for name, key in (("prompt", "prompts"), ("class_labels", "labels")):
        if given.get(name) is not None:
            call[key] = given[name] if isinstance(given[name], list) else [given[name]]
    try:
        model = st.load(pipe, **call)
        eps = seen.before[0].double() / made.init_noise_sigma
        with started(eps.reshape(len(eps), *model.shape)):
            end = st.sample(model, plan, len(eps), micro_batch=len(eps))
        return {"sample_off": relative(seen.after[-1], end)}
    except SigmaTuneError as error:
        return {"refused": reason(error)}
    except Exception as error:  # noqa: BLE001 - a crash of ours is a row of the table
        return {"refused": f"{type(error).__name__}: {reason(error)}"}


def main() -> None:
    """Examines all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, help="a checkout of diffusers")
    parser.add_argument("--only", default="", help="parts of pipelines' names, separated by commas")
    parser.add_argument("--limit", type=int, default=120, help="most seconds for one pipeline")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "clients_diffusers.json")
    options = parser.parse_args()
    if options.checkout is None or not (options.checkout / "tests" / "pipelines").is_dir():
        parser.error(
            "pass --checkout DIR, a checkout of diffusers with its tests: "
            "git clone --depth 1 https://github.com/huggingface/diffusers DIR"
        )
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, _alarm)
    transformers.logging.set_verbosity_error()
    diffusers.logging.set_verbosity_error()
    rows = []
    with offline():
        for name, tester, missing in testers(options.checkout):
            if not any(part in name.lower() for part in options.only.lower().split(",")):
                continue
            row = {"pipeline": name}
            signal.alarm(options.limit)
            try:
                row |= {"missing": missing} if tester is None else examined(tester)
            except TooLong as error:
                row["missing"] = str(error)
            except NotHere as error:
                row["missing"] = f"{error} of the hub"
            except SigmaTuneError as error:
                row["not_run"] = reason(error)
            except Exception as error:  # noqa: BLE001
                row["missing"] = reason(error)
            finally:
                signal.alarm(0)
            rows.append(row)
            print(json.dumps(row), flush=True)
            gc.collect()
            write(options.out, rows)


def write(out: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the results with the versions; rows of an earlier run with the same versions stay."""
    versions = {
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    earlier = json.loads(out.read_text()) if out.is_file() else {}
    kept = earlier.get("rows", []) if earlier.get("versions") == versions else []
    merged = {row["pipeline"]: row for row in [*kept, *rows]}
    result = {
        "benchmark": "tools/clients/diffusers_pipelines.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions,
        "steps": STEPS,
        "rows": sorted(merged.values(), key=lambda row: row["pipeline"]),
    }
    write_text(out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
