"""Makes the files by which tests see that what one processor wrote opens on every other: tests/processors.

    ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 python tools/make_processor_files.py NAME   # one set, under a name
    python tools/make_processor_files.py all        # this version under every set of kernels that this processor has

A set is a plan on every kind of noise path (static, tuned, learned coefficients, rows, phase space), a rule, spectra, cases
of the conformance suite, an error table, exports, and the images of each plan. Files of equal content are kept once;
``sets.json`` says which set has which. The sets "0.1.0 ..." are of release 0.1.0, whose tables
came from torch's kernels, made by putting that version's ``src`` first on PYTHONPATH; they are kept as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "processors"
SETS = FOLDER / "sets.json"
NUMPY_ALONE = {"NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3 AVX512_ICL AVX512_SPR"}
KERNELS: dict[str, dict[str, str]] = {
    **{f"{kind} {threads}": {"ATEN_CPU_CAPABILITY": kind, "OMP_NUM_THREADS": str(threads)}
       for kind in ("default", "avx2", "avx512") for threads in (1, 2)},
    "baseline 1": {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1", **NUMPY_ALONE},
}  # fmt: skip
SOLVER = {  # of each model's plan
    "vp": "heun", "sd": "dpmpp2m", "zero-snr": "euler", "sd-zero-snr": "unipc2", "edm": "sde-dpmpp2m", "flow": "heun",
    "sigmoid": "dpmpp3m", "narrowed": "deis3", "whole": "dpmpp2m", "score": "reduced-oba",
}  # fmt: skip


def models() -> dict[str, Any]:
    """An exact model on every kind of noise path, and the bundled network of digits."""
    from sigmatune.models import load
    from sigmatune.models.scheduler_config import read_process
    from sigmatune.noise import VE, Flow, Narrowed, vp

    sd = {"beta_start": 0.00085, "beta_end": 0.012}
    paths = {
        "vp": vp(),
        "sd": vp("scaled_linear", **sd),
        "zero-snr": vp(zero_terminal_snr=True),
        "sd-zero-snr": vp("scaled_linear", **sd, zero_terminal_snr=True),
        "edm": VE(0.002, 80.0, "quarter_log"),
        "score": VE(0.01, 50.0),
        "flow": Flow(3.0),
        "sigmoid": read_process({"_class_name": "DDPMScheduler", "beta_schedule": "sigmoid"}).path,
        "narrowed": Narrowed(vp(), 0.05, vp().sigma_max),
        "whole": vp(),
    }
    models: dict[str, Any] = {name: exact(path) for name, path in paths.items()}
    models["whole"].integer_time = True
    return {**models, "digits": load("digits")}


def exact(path: Any) -> Any:
    """An exact model on a noise path."""
    import numpy as np

    from sigmatune.models.analytic import GaussianSpectrum

    f = np.fft.fftfreq(4) * 4
    power = np.maximum(np.hypot(f[:, None], f[None, :]), 0.5) ** -2.0
    return GaussianSpectrum(power / power.mean() / 4, (1, 4, 4), path)


def model_of(name: str, known: Mapping[str, Any]) -> Any:
    """The model of a plan's file."""
    return known[name.removesuffix(".json").partition(" ")[0]]


def plans(known: Mapping[str, Any], store: Path) -> Iterator[tuple[str, Any]]:
    """Plans by the names of their files: the model, and what is special."""
    from dataclasses import replace

    from sigmatune.plan import Plan, compile_plan
    from sigmatune.schedules import build

    for name, solver in SOLVER.items():
        family = "karras" if name in ("vp", "edm") else "uniform-trailing"
        ends = {"sigma_max": 40.0} if solver == "reduced-oba" else {}
        yield name, compile_plan(build(family, 4, known[name].path, **ends), solver, known[name])
    plain = compile_plan(build("uniform-linspace", 3, known["flow"].path), "dpmpp2m", known["flow"])
    table = replace(plain.coefficients, b=plain.coefficients.b * 0.98)
    yield "flow learned", Plan(plain.schedule, "custom", table, plain.path, plain.fingerprint)
    yield "vp rows", rule(known["vp"]).plan(0, range(2))
    yield "vp tuned", tuned(known["vp"], store=store)
    yield "sd-zero-snr tuned", tuned(known["sd-zero-snr"])
    yield "digits tuned", tuned(known["digits"], "static")


def tuned(model: Any, method: str = "search", store: Path | None = None) -> Any:
    """A plan of four calls, found in a few seconds."""
    from sigmatune.tuning import TuningSettings, tune

    small = {"tuning": 8, "validation": 8, "held_out": 8, "evaluations": 6, "reference_steps": 32, "micro_batch": 8}
    plan = tune(model, 4, solver="euler", method=method, settings=TuningSettings(**small), store=store)
    return plan.with_notes(cost=None)


def rule(model: Any) -> Any:
    """A rule whose first level is fixed at the model's own end."""
    import numpy as np

    from sigmatune.rules import SpectralRule
    from sigmatune.spectra.mixture import Mixture, Part

    part = Part(np.array([0.4, 0.6]), np.array([[0.2, -0.1], [-0.3, 0.2]]), np.array([np.eye(2), np.eye(2) / 3]),
                np.array([1.5, 0.5, 0.12]), 64)  # fmt: skip
    mixture = Mixture("pca", (4, 4), np.log([1.5, 0.5, 0.12]), np.array([[0.3, 0.2, 0.1], [0.1, -0.1, 0.2]]), part)
    ends = {"sigma_max": model.path.sigma_max}
    return SpectralRule.of(model, "spectral-mixed", 3, mixture, solver="euler", options=ends)


def files(folder: Path) -> None:
    """Writes one set into a folder."""
    import torch

    from sigmatune.interop import conformance, exports
    from sigmatune.plan import sample
    from sigmatune.spectra.measured_spectra import measure
    from sigmatune.spectra.spectrum_file import save_measured
    from sigmatune.tuning.error_table import TableSize, tabulate

    known, images = models(), dict[str, Any]()
    with tempfile.TemporaryDirectory() as store:
        for name, plan in plans(known, Path(store)):
            plan.save(folder / f"{name}.json")
            images[f"{name}.json"] = shown(sample(model_of(name, known), plan, 2 if name != "digits tuned" else 1))
            if name == "sd":
                for target in ("comfyui", "k-diffusion"):
                    (folder / f"{target}.txt").write_text(exports.export(plan, target))
    rule(known["vp"]).save(folder / "rule.json")
    images["rule.json"] = shown(sample(known["vp"], rule(known["vp"]), 2))
    drawn = known["vp"].draw(32)
    save_measured(measure(drawn.clamp(-1, 1), layout="NCHW"), folder / "spectrum.json")
    tabulate(known["vp"], drawn[:16].to(torch.float64), TableSize(12)).save(folder / "error-table.json")
    (folder / "conformance.jsonl").write_text(conformance.dumps(conformance.cases()[2::17]))
    write_json(folder / "tables.json", tables())
    write_json(folder / "images.json", images)


def tables() -> dict[str, str]:
    """Digests of beta tables and of the levels of their whole timesteps, bit for bit."""
    import numpy as np

    from sigmatune.models.scheduler_config import read_process

    digests = {}
    for kind in ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"):
        for zero in (False, True):
            config = {"_class_name": "DDIMScheduler", "beta_schedule": kind, "rescale_betas_zero_snr": zero}
            path: Any = read_process(config).path
            bits = path.alphas_cumprod.tobytes() + path.sigma(np.arange(path.levels, dtype=np.float64)).tobytes()
            digests[f"{kind}{', zero terminal SNR' * zero}"] = hashlib.sha256(bits).hexdigest()
    return digests


def shown(images: Any) -> list[Any]:
    """Images as JSON has them, to five digits after the point."""
    return [[round(value, 5) for value in row] for row in images.double().flatten(1).tolist()]


def write_json(file: Path, value: Any) -> None:
    """Writes JSON."""
    file.write_text(json.dumps(value) + "\n", encoding="utf-8")


def keep(name: str, write: Callable[[Path], None] = files) -> None:
    """Adds a set to those that are kept, or replaces it."""
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("error")
        write(Path(place))
        FOLDER.mkdir(parents=True, exist_ok=True)
        sets = json.loads(SETS.read_text(encoding="utf-8")) if SETS.is_file() else {}
        sets[name] = {}
        for file in sorted(Path(place).iterdir()):
            digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
            sets[name][file.name] = f"{digest}{file.suffix}"
            (FOLDER / sets[name][file.name]).write_bytes(file.read_bytes())
    SETS.write_text(json.dumps(dict(sorted(sets.items())), indent=1) + "\n", encoding="utf-8")
    used = {kept for one in sets.values() for kept in one.values()}
    for file in FOLDER.iterdir():
        if file.name not in used and file != SETS:
            file.unlink()


def main() -> None:
    """Makes one set here, or all in processes of their own."""
    name = " ".join(sys.argv[1:])
    if name != "all":
        keep(name)
        return
    for kernels, environment in KERNELS.items():
        print(kernels)
        subprocess.run([sys.executable, __file__, kernels], env={**os.environ, **environment}, check=True)


if __name__ == "__main__":
    main()
