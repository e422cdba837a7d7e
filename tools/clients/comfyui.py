"""Runs plans inside ComfyUI: ``python tools/clients/comfyui.py --checkout DIR``.

DIR is a checkout of https://github.com/comfyanonymous/ComfyUI, whose requirements are on the path; where torchvision and
torchaudio are missing, modules of these names that only import are enough. The check writes tiny checkpoints that ComfyUI
recognises as SD 1.5, SD3 and Flux and drives two things:

* its server, ``main.py --cpu --listen 127.0.0.1``, with the pack's example workflows posted as JSON, and a stranger's path:
  load a plan, sample, change the file, sample again, connect a wrong model;
* its sampling code in this process, with every solver on every kind of model.

Every row has the t and sigma at the network against the plan, and the end against the plan's own state machine on ComfyUI's
network and noise. Written to ``benchmarks/results/clients_comfyui.json``.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import client
import comfyui_models as models
import numpy as np
import torch
from comfyui_server import PACK, Refused, Server
from comfyui_workflows import example, sampled_by, tiny, with_inputs

import sigmatune as st
from sigmatune.interop import exports
from sigmatune.interop.exports.target import on_timesteps
from sigmatune.noise import VE, Flow, NoisePath, vp
from sigmatune.plan import Plan
from sigmatune.solvers import POSITION

BETAS = {"beta_start": 0.00085, "beta_end": 0.012}
SD, ZERO = vp("scaled_linear", **BETAS), vp("scaled_linear", **BETAS, zero_terminal_snr=True)
EDM = VE(0.002, 80.0, clock="quarter_log")
SEED = 3

Patch = dict[str, Any]
MODELS: dict[str, tuple[str, NoisePath, float, Patch | None]] = {
    "SD 1.5": ("sd15", SD, 1.0, None),
    "SD 1.5, v, zero SNR": (
        "sd15", ZERO, 1.0,
        {"class_type": "ModelSamplingDiscrete", "inputs": {"sampling": "v_prediction", "zsnr": True}},
    ),
    "EDM": (
        "sd15", EDM, 1.0,
        {"class_type": "ModelSamplingContinuousEDM", "inputs": {"sampling": "edm", "sigma_max": 80.0, "sigma_min": 0.002}},
    ),
    "SD3": ("sd3", Flow(3.0), 1.0, None),
    "SD3, shift 6": ("sd3", Flow(6.0), 1.0, {"class_type": "ModelSamplingSD3", "inputs": {"shift": 6.0}}),
    "Flux": ("flux", Flow(float(np.exp(1.15))), 1e-3, None),
}  # fmt: skip
"""Name: tiny checkpoint, noise path, the network's t for t of the path, node that changes the model's process."""


class Check:
    """The checkpoints as ComfyUI loads them, and the comparison of a run with its plan."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def model(self, name: str) -> Any:
        """A model in this process, by ComfyUI's loader and node."""
        import comfy.sd
        from comfy_extras.nodes_model_advanced import NODE_CLASS_MAPPINGS

        checkpoint, _, _, patch = MODELS[name]
        model = comfy.sd.load_diffusion_model(str(self.folder / f"{checkpoint}.safetensors"))
        if patch is None:
            return model
        node = NODE_CLASS_MAPPINGS[patch["class_type"]]
        return getattr(node(), node.FUNCTION)(model, **patch["inputs"])[0]

    def noise(self, name: str) -> torch.Tensor:
        """ComfyUI's start noise of SEED."""
        import comfy.sample

        return comfy.sample.prepare_noise(torch.zeros(1, *models.MODELS[MODELS[name][0]].shape), SEED)

    def compared(
        self, name: str, plan: Plan, calls: list[tuple[float, float]], end: torch.Tensor, **options: Any
    ) -> dict[str, Any]:
        """The numbers of a row; ``end`` as a workflow saves it, in the scale of the decoder."""
        checkpoint, path, times, _ = MODELS[name]
        model = self.model(name)
        network = models.Network(model, models.MODELS[checkpoint], path, times)
        target = options.get("target")
        if target is None:
            target = client.expected(plan, network, self.noise(name), SEED)
        flow = isinstance(path, Flow)
        pairs = [(t, s if not flow else s / (1 - s) if s < 1 else np.inf) for t, s in calls]
        return client.compared(plan, pairs, model.model.process_latent_in(end), target, times)


def pack() -> dict[str, Any]:
    """The nodes of the pack, imported as ComfyUI imports them."""
    spec = importlib.util.spec_from_file_location("sigmatune_pack", PACK / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.NODE_CLASS_MAPPINGS


def in_process(check: Check, plan_file: Path, record: Path) -> Iterator[dict[str, Any]]:
    """Every solver on every kind of model, through the pack's nodes and ComfyUI's SamplerCustom."""
    import comfy.sample
    import comfyui_recorder

    nodes = pack()

    def sampled(name: str, solver: str) -> dict[str, Any]:
        checkpoint, path, _, _ = MODELS[name]
        sizes, plan = models.MODELS[checkpoint], client.plan_on(path, solver)
        plan.save(plan_file, force=True)
        model = check.model(name)
        sigmas, sampler, _ = nodes["SigmaTuneLoadPlan"]().load(plan=str(plan_file), model=model)
        record.write_text("")
        (model,) = comfyui_recorder.Record().wrap(model, str(record))
        (zeros,) = comfyui_recorder.Zeros().make(sizes.tokens, sizes.width, sizes.pooled)
        empty, noise = torch.zeros(1, *sizes.shape), check.noise(name)
        end = comfy.sample.sample_custom(
            model, noise, 1.0, sampler, sigmas, zeros, zeros, empty, disable_pbar=True, seed=SEED
        )
        return check.compared(name, plan, calls_of(record), end)

    for name in MODELS:
        for solver in (*POSITION, "learned"):
            names = {"way": "pack, in process", "model": name, "solver": solver}
            yield client.row(names, lambda name=name, solver=solver: sampled(name, solver))


def calls_of(record: Path) -> list[tuple[float, float]]:
    """The recorded pairs."""
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    return [(row["t"], row["sigma"]) for row in rows]


def posted(server: Server, workflow: Any, record: Path) -> tuple[list[tuple[float, float]], torch.Tensor]:
    """Posts a workflow; returns the pairs at the network and the saved latents."""
    record.write_text("")
    end = server.latents(server.post(with_inputs(workflow, "SamplerCustom", noise_seed=SEED)))
    return calls_of(record), end


def on_server(check: Check, server: Server) -> Iterator[dict[str, Any]]:
    """The example workflows, and the text for ManualSigmas, on the running server."""
    record, plan_file = server.base / "calls.jsonl", server.base / "models" / "sigmatune_plans" / "plan.json"

    def by_pack(name: str, plan: Plan) -> dict[str, Any]:
        plan.save(plan_file, force=True)
        graph = tiny(example("text_to_image"), MODELS[name][0], record, MODELS[name][3])
        return check.compared(name, plan, *posted(server, graph, record))

    for name, (_, path, _, _) in MODELS.items():
        for solver in ("euler", "dpmpp2m", "heun", "ancestral", "learned"):
            plan = client.plan_on(path, solver)
            names = {"way": "pack, server", "model": name, "solver": solver}
            yield client.row(names, lambda name=name, plan=plan: by_pack(name, plan))
    yield from by_lists(check, server, record)
    yield from by_other_examples(check, server, record, plan_file)


def by_lists(check: Check, server: Server, record: Path) -> Iterator[dict[str, Any]]:
    """``export --to comfyui``, pasted into ManualSigmas, with ComfyUI's own samplers."""

    def by_list(name: str, plan: Plan, timesteps: str, **nodes: Any) -> dict[str, Any]:
        line = exports.export(plan, "comfyui", timesteps=timesteps)
        said = exports.remark(plan, "comfyui", timesteps=timesteps).partition("sampler ")[2].partition(",")[0]
        schedule, _ = on_timesteps(plan, timesteps)
        if schedule is not plan.schedule:
            plan = st.compile_plan(schedule, plan.solver).with_notes(path=plan.path)
        graph = tiny(example("text_to_image"), MODELS[name][0], record, MODELS[name][3])
        del graph["5"]
        chosen: dict[str, Any] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": said}}
        if "midpoint" in said:
            sde = {"solver_type": "midpoint", "eta": 0.0, "s_noise": 1.0, "noise_device": "cpu"}
            chosen = {"class_type": "SamplerDPMPP_2M_SDE", "inputs": sde}
        manual = {"class_type": "ManualSigmas", "inputs": {"sigmas": line}}
        graph = sampled_by(graph, {"m": manual, "k": chosen, **nodes}, ["m", 0], ["k", 0])
        if nodes:
            graph = with_inputs(graph, "SamplerCustom", model=["exact", 0])
        return check.compared(name, plan, *posted(server, graph, record))

    exact = {"exact": {"class_type": "SigmaTuneExactTimesteps", "inputs": {"model": ["record", 0]}}}
    for name in ("SD 1.5", "SD3", "Flux"):
        for solver in ("euler", "dpmpp2m", *(("heun",) if name == "SD 1.5" else ())):
            plan = client.plan_on(MODELS[name][1], solver)
            for timesteps in ("whole", "exact") if name == "SD 1.5" else ("whole",):
                names = {"way": f"ManualSigmas, {timesteps} timesteps", "model": name, "solver": solver}
                yield client.row(names, lambda n=name, p=plan, t=timesteps: by_list(n, p, t))
            if name == "SD 1.5":
                names = {"way": "ManualSigmas, node exact timesteps", "model": name, "solver": solver}
                yield client.row(names, lambda n=name, p=plan: by_list(n, p, "exact", **exact))


def by_other_examples(check: Check, server: Server, record: Path, plan_file: Path) -> Iterator[dict[str, Any]]:
    """The other example workflows: two stages of one plan, ComfyUI's sampler on a plan's curve, a start from an image."""

    def stages(name: str) -> dict[str, Any]:
        plan = client.plan_on(MODELS[name][1], "euler")
        plan.save(plan_file, force=True)
        graph = tiny(example("two_stages"), MODELS[name][0], record, MODELS[name][3])
        return check.compared(name, plan, *posted(server, graph, record))

    def curve(name: str) -> dict[str, Any]:
        plan = client.plan_on(MODELS[name][1], "dpmpp2m", 9)
        plan.save(plan_file, force=True)
        graph = with_inputs(tiny(example("comfyui_sampler"), MODELS[name][0], record), "SigmaTuneTuned", steps=9)
        return check.compared(name, plan, *posted(server, graph, record))

    def from_image(name: str) -> dict[str, Any]:
        from sigmatune.interop.image_start import starting_level

        checkpoint, path, times, _ = MODELS[name]
        plan = client.plan_on(path, "euler")
        plan.save(plan_file, force=True)
        graph = tiny(example("image_to_image"), checkpoint, record)
        size = {"width": 64, "height": 64, "batch_size": 1}
        empty = "EmptyLatentImage" if models.MODELS[checkpoint].shape[0] == 4 else "EmptySD3LatentImage"
        graph["4"], _ = {"class_type": empty, "inputs": size}, graph.pop("9")
        part = st.partial(plan, starting_level(plan, 0.6))
        noise, model = check.noise(name), check.model(name)
        network = models.Network(model, models.MODELS[checkpoint], path, times)
        image = torch.zeros_like(noise)  # ComfyUI takes empty latents as they are, without the shift of their format
        start = [
            w * noise + o * image for w, o in zip(part.coefficients.start[:, 0], part.coefficients.origin, strict=True)
        ]
        target = client.run(part.coefficients, network, seed=SEED, indices=[0], state=start)
        return check.compared(name, part, *posted(server, graph, record), target=target)

    for way, run, names in (
        ("two stages, server", stages, ("SD 1.5", "SD3")),
        ("ComfyUI's sampler on a plan's curve, server", curve, ("SD 1.5",)),
        ("denoise .6, server", from_image, ("SD 1.5", "SD3")),
    ):
        for name in names:
            solver = "dpmpp2m" if run is curve else "euler"
            yield client.row({"way": way, "model": name, "solver": solver}, lambda run=run, name=name: run(name))


def strangers_path(check: Check, server: Server) -> Iterator[dict[str, Any]]:
    """Load a plan, sample, change the file, sample again without a restart, connect a wrong model; all as JSON."""
    record, plan_file = server.base / "calls.jsonl", server.base / "models" / "sigmatune_plans" / "mine.json"
    first, second = client.plan_on(SD, "dpmpp2m", 6), client.plan_on(SD, "dpmpp2m", 6, "karras")
    graph = with_inputs(tiny(example("text_to_image"), "sd15", record), "SigmaTuneLoadPlan", file="mine.json")

    def sampled(plan: Plan) -> dict[str, Any]:
        plan.save(plan_file, force=True)
        return check.compared("SD 1.5", plan, *posted(server, graph, record))

    def step(what: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return client.row({"way": what, "model": "SD 1.5", "solver": "dpmpp2m"}, run)

    yield step("path: load a plan, sample", lambda: sampled(first))
    yield step("path: change the file, sample again", lambda: sampled(second))
    listed = server.asked("/object_info/SigmaTuneLoadPlan")["SigmaTuneLoadPlan"]["input"]["optional"]["file"][0]
    yield step("path: the file is listed", lambda: {"equal": "mine.json" in listed})
    for what, checkpoint, plan, patch in (
        ("an SD plan on SD3", "sd3", first, None),
        ("a flow plan on SD 1.5", "sd15", client.plan_on(Flow(3.0), "dpmpp2m"), None),
        ("a plan of shift 3 on shift 6", "sd3", client.plan_on(Flow(3.0), "dpmpp2m"), MODELS["SD3, shift 6"][3]),
        ("a plan of zero SNR on SD 1.5", "sd15", client.plan_on(ZERO, "dpmpp2m"), None),
        ("an EDM plan on SD 1.5", "sd15", client.plan_on(EDM, "dpmpp2m"), None),
        ("a plan of another table on SD 1.5", "sd15", client.plan_on(vp("linear"), "dpmpp2m"), None),
    ):
        plan.save(plan_file, force=True)
        for way, connected in (("node", True), ("sampler", False)):
            wrong = with_inputs(
                tiny(example("text_to_image"), checkpoint, record, patch), "SigmaTuneLoadPlan", file="mine.json"
            )
            if not connected:
                del wrong["5"]["inputs"]["model"]
            yield client.row(
                {"way": f"path: {what}, {way}", "model": checkpoint, "solver": plan.solver},
                lambda wrong=wrong: refused(server, wrong, record),
            )
    missing = with_inputs(graph, "SigmaTuneLoadPlan", file="(the path above)", plan="nothing.json")
    yield step("path: no such file", lambda: refused(server, missing, record))


def refused(server: Server, workflow: Any, record: Path) -> dict[str, Any]:
    """Whether a workflow is refused, and what the user reads."""
    try:
        posted(server, workflow, record)
    except Refused as reason:
        return {"equal": True, "refused": str(reason)}
    return {"equal": False, "refused": ""}


def main() -> None:
    """Runs all of it."""
    needs = (
        "install its requirements but torch, torchvision and torchaudio, of which modules that only import are enough"
    )
    given = client.checkout("ComfyUI", "https://github.com/comfyanonymous/ComfyUI", needs, "comfy/samplers.py")
    torch.set_num_threads(1)
    sys.path.append(str(Path(__file__).parent))
    models.use(given.checkout)
    version = (given.checkout / "comfyui_version.py").read_text().split('"')[-2]
    server = Server(given.checkout)
    folder = server.base / "models" / "diffusion_models"
    models.write(folder)
    check = Check(folder)
    with server:
        rows = [*strangers_path(check, server), *on_server(check, server)]
    rows += in_process(check, server.base / "plan.json", server.base / "calls.jsonl")
    server.close()
    client.save("comfyui", given, {"name": "ComfyUI", "version": version}, rows)


if __name__ == "__main__":
    main()
