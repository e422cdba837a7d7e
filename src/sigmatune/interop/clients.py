"""What other programs take of a plan, for the report and the studio: the text to copy, and what to do with it."""

from __future__ import annotations

from sigmatune.interop.exports import export, remark
from sigmatune.plan import Plan
from sigmatune.plan.purpose import guidance_of
from sigmatune.support.errors import SigmaTuneError

PROGRAMS = {
    "ComfyUI": ("comfyui", "It needs no node pack."),
    "AUTOMATIC1111 and Forge": (
        "a1111",
        "Save this file as its first line says, restart, and choose its schedule type.",
    ),
    "stable-diffusion.cpp": ("sd.cpp", "Add these arguments to its command line."),
    "k-diffusion": ("k-diffusion", "Pass these sigmas to the sampler that the comment names."),
}


def _arguments(plan: Plan) -> str:
    """The arguments of a pipeline's call: the condition and the guidance that the plan was tuned with, and its steps."""
    kept = plan.load_options
    given = [name for option, name in (("prompts", "prompt"), ("labels", "class_labels=labels")) if option in kept]
    scale = kept.get("guidance", (guidance_of(plan.tuned_for) or (None,))[0])
    given += [f"guidance_scale={scale:g}"] if isinstance(scale, int | float) else []
    return ", ".join([*given, f"num_inference_steps={plan.calls}"])


def clients(plan: Plan) -> dict[str, tuple[str, str]]:
    """(What to do, text) by program; an empty text where the program cannot express the plan, with the reason."""
    shape = (plan.tuned_for or {}).get("shape")
    if isinstance(shape, list) and len(shape) < 3:  # no image, so of these programs only a library of samplers takes it
        target, how = PROGRAMS["k-diffusion"]
        return {"k-diffusion": _exported(plan, target, how)}
    texts = {"diffusers": (
        f"Call the pipeline with num_inference_steps={plan.calls}.",
        f"pipe.scheduler = st.interop.diffusers.scheduler(plan, pipe)\nimage = pipe({_arguments(plan)}).images[0]",
    )}  # fmt: skip
    for name, (target, how) in PROGRAMS.items():
        texts[name] = _exported(plan, target, how)
    return texts


def _exported(plan: Plan, target: str, how: str) -> tuple[str, str]:
    try:
        text, said = export(plan, target), remark(plan, target)
    except SigmaTuneError as refused:
        return str(refused), ""
    return f"{how} {said[0].upper()}{said[1:]}." if said else how, text
