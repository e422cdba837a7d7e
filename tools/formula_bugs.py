"""The formula bugs that tests must notice, in groups; :mod:`mutants` inserts them one at a time."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One formula bug.

    Attributes:
        file: Below ``src/sigmatune``.
        right, wrong: The text and what it becomes; ``right`` occurs exactly once.
        tests: Test files of which one should fail.
    """

    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


SOLVERS = ("test_solvers.py", "test_diffusers_agreement.py")
FAMILIES = ("test_schedules.py",)
RAPSD, BOUNDS = ("test_spectra_rapsd.py", "test_closed_form.py"), ("test_spectra_bounds.py",)
LOOP = ("test_plan.py", "test_solvers.py", "test_diffusers_agreement.py")
FOLLOWING = ("test_distillation.py",)
EVALUATION = ("test_metrics.py", "test_evaluation.py")
LAWS, TRAINING = ("test_training_laws.py",), ("test_training.py",)
FINETUNE, DISTILLATION, PSLD = ("test_finetune.py",), ("test_distillation.py",), ("test_training_phase_space.py",)
SURROGATE, BUDGET = ("test_surrogate.py",), ("test_budget.py",)
MEASURED, GUARD = ("test_tuned_measures.py",), ("test_guard.py",)
NUMBERS, INTERVALS = ("test_laws.py",), ("test_interval_laws.py",)
MUTANTS = (
    # Solvers: signs, weights, wrong history.
    Mutant(
        "solvers/base.py",
        "(1 - sigmas[..., 1:] / sigmas[..., :-1])",
        "(1 + sigmas[..., 1:] / sigmas[..., :-1])",
        SOLVERS,
    ),
    Mutant("solvers/heun.py", "slope = (1 - inverse) / 2", "slope = (1 - inverse) / 3", SOLVERS),
    Mutant("solvers/dpmpp2m.py", "stack([1 + half, -half]", "stack([1 - half, half]", SOLVERS),
    Mutant(
        "solvers/dpmpp3m.py", 'adams(log_steps(sigmas), g, "data")', 'adams(log_steps(sigmas), g, "noise")', SOLVERS
    ),
    Mutant("solvers/dpmpp3m.py", "> 0, parabola, line)", "> 0, line, parabola)", SOLVERS),
    Mutant("solvers/ipndm.py", "(23 / 12, -16 / 12, 5 / 12, 0.0)", "(23 / 12, -15 / 12, 4 / 12, 0.0)", SOLVERS),
    Mutant("solvers/ipndm.py", "min(known + k, order - 1)", "min(known + k, max(order - 2, 0))", SOLVERS),
    Mutant("solvers/deis.py", 'g, "noise")', 'g, "data")', SOLVERS),
    Mutant("solvers/unipc.py", "torch.where(mean, 0.5, ahead)", "torch.where(mean, 0.4, ahead)", SOLVERS),
    Mutant("solvers/unipc.py", "ahead[..., :-1]], dim=-1)", "ahead[..., 1:]], dim=-1)", SOLVERS),
    Mutant("solvers/sde.py", "(1 - (sigma_s / sigma_t) ** 2).sqrt()", "(1 - sigma_s / sigma_t).sqrt()", SOLVERS),
    Mutant("solvers/sde.py", "(1 - faded**2).sqrt()", "(1 - faded).sqrt()", SOLVERS),
    Mutant("solvers/adams.py", "torch.exp(u - h.unsqueeze(-1))", "torch.exp(h.unsqueeze(-1) - u)", SOLVERS),
    Mutant("solvers/multistep.py", "{(0, j): take * w[..., j]", "{(0, j): -take * w[..., j]", SOLVERS),
    # The guard's second half, and the rivals.
    Mutant("tuning/no_loss.py", "return self.adjusted <= FALSE_ALARMS", "return self.p <= FALSE_ALARMS", GUARD),
    Mutant("tuning/no_loss.py", "strict=name == MEAN", "strict=False", GUARD),
    Mutant("tuning/no_loss.py", "-difference.value / difference.error", "difference.value / difference.error", GUARD),
    Mutant("tuning/no_loss.py", "np.sort(errors)[::-1] @ weight / share", "np.sort(errors) @ weight / share", GUARD),
    Mutant("tuning/guard.py", "self.comparison.gain and not self.lost", "self.comparison.gain", GUARD),
    Mutant("statistics/holm.py", "(m - np.arange(m)) * values[order]", "m * values[order]", GUARD),
    Mutant("statistics/energy.py", "    np.fill_diagonal(terms, 0.0)\n", "", GUARD),
    Mutant("tuning/baseline.py", "FINALISTS * rows < len(entrants) * rows", "FINALISTS * rows < 0", GUARD),
    Mutant("schedules/ays.py", "last, steps + 1)[:-1]", "last, steps)", FAMILIES),
    Mutant("schedules/comfyui.py", "np.floor(np.arange(steps)", "np.ceil(np.arange(steps)", FAMILIES),
    Mutant("schedules/comfyui.py", "path.levels / (1 + 1 / path.sigma_min)", "1.0", FAMILIES),
    Mutant("schedules/linear_quadratic.py", "grown**2", "grown**3", FAMILIES),
    Mutant("schedules/__init__.py", "low <= path.sigma_min * (1 + SAME)", "low < 0", FAMILIES),
    # Families: off by one, wrong exponent, wrong end.
    Mutant(
        "schedules/uniform.py", "np.arange(steps, 0, -1) / steps", "np.arange(steps, 0, -1) / (steps + 1)", FAMILIES
    ),
    Mutant("schedules/karras.py", "steps) ** rho", "steps) ** (rho + 1)", FAMILIES),
    Mutant("schedules/kl_optimal.py", "c * np.tan(", "c * np.sinh(", FAMILIES),
    Mutant("schedules/shifted_cosine.py", "/ shift)", "* shift)", FAMILIES),
    # Spectra: mirror images, means, divergences, ends, curves.
    Mutant("spectra/rings.py", "index[:, 1 : (width + 1) // 2] += kept + 1", "index[:, 1:] += kept + 1", RAPSD),
    Mutant("spectra/spectrum.py", "of_mean, 0) * (n / (n - 1))", "of_mean, 0)", RAPSD),
    Mutant("spectra/power_laws.py", "2 / (spectrum.images *", "1 / (spectrum.images *", ("test_spectra_laws.py",)),
    Mutant("spectra/bounds.py", "total = 0.5 * (count * nats)", "total = (count * nats)", BOUNDS),
    Mutant("spectra/bounds.py", "np.divide(power * variance,", "np.divide(power * power,", BOUNDS),
    Mutant("spectra/bounds.py", "nats / steps ** (order + 1)", "nats / steps ** (order - 1)", BOUNDS),
    Mutant("spectra/advice.py", "math.pi**2 / 12", "math.pi**2 / 3", BOUNDS),
    Mutant(
        "spectra/curves.py", "first + (last - first) * v", "last + (first - last) * v", ("test_spectral_families.py",)
    ),
    Mutant("analysis/result.py", "change / -np.diff(self.taus)", "change * -np.diff(self.taus)", ("test_analysis.py",)),
    # Tuners: the loss of an interval, tied sums, the loss of the gradient.
    Mutant("tuning/discretisation.py", "* error[:, None]\n", "* error[None, :]\n", ("test_discretisation.py",)),
    Mutant("tuning/parameters.py", "delta = delta - filled *", "delta = delta + filled *", ("test_gradient.py",)),
    Mutant(
        "tuning/gradient.py",
        "self.bench.measure.squares(ends, exact.to(ends))",
        "self.bench.measure.squares(ends, exact.to(ends)).sqrt()",
        MEASURED,
    ),
    # What every stage weighs by the measure.
    Mutant("tuning/error_table.py", "[measure.squares(a, b).cpu()", "[measure.errors(a, b).cpu()", MEASURED),
    Mutant("tuning/gaussian_optimum.py", "modes.count * modes.weights / scale", "modes.count / scale", MEASURED),
    Mutant("tuning/gaussian_optimum.py", "whole - ring_power(mean[None], turn)", "whole", MEASURED),
    Mutant("tuning/followed_modes.py", "(modes.real - modes.imag)", "(modes.real)", MEASURED),
    Mutant("tuning/followed_modes.py", "self._weights[chosen] * stands_for", "self._weights[chosen]", MEASURED),
    Mutant("tuning/spacing.py", "least * narrow.sum()", "least", ("test_spacing.py",)),
    Mutant("tuning/climb.py", "(plan, better))", "(better, plan))", ("test_spacing.py",)),
    Mutant("measures/whitened.py", "(alpha**2 * power + 1 - alpha**2)", "(power + 1 - alpha**2)", MEASURED),
    Mutant("tuning/workbench.py", "|{self.measure_choice}|{self.settings.rows", "|{self.settings.rows", MEASURED),
    Mutant("tuning/surrogate.py", "said = said + d * (z - path)", "said = said - d * (z - path)", SURROGATE),
    Mutant("tuning/surrogate.py", "alpha[k] * self._power / (alpha[k] ** 2", "self._power / (alpha[k] ** 2", SURROGATE),
    Mutant("tuning/followed_modes.py", "len(rest) / len(few)", "1.0", SURROGATE),
    Mutant("tuning/kriging.py", "system[n, n] = 0", "system[n, n] = 1", SURROGATE),
    Mutant("tuning/kriging.py", "self.surrogate.run(parameters.table(point)) + kriged(", "kriged(", SURROGATE),
    Mutant(
        "tuning/budget.py", "max(self.evaluations - besides, 0) * part + besides", "self.evaluations * part", BUDGET
    ),
    Mutant("statistics/frechet.py", "- 2 * cross", "- cross", ("test_blackbox.py",)),
    # Evaluation: joined moments, the jackknife, pairs of a row with itself, the wrong neighbour, images under a wrong name.
    Mutant("statistics/moments.py", "* (self.n * other.n / n)", "* (other.n / n)", EVALUATION),
    Mutant("statistics/moments.py", "(part.n / n)", "(part.n / self.n)", EVALUATION),
    Mutant("statistics/jackknife.py", "(len(left) - 1) * np.var", "np.var", INTERVALS),
    Mutant("evaluation/metrics/kernel.py", "n * n - float(np.square(weights) @ self.sizes)", "n * n", EVALUATION),
    Mutant(
        "evaluation/metrics/neighbours.py", "distances, K, axis=1)[:, K]", "distances, K, axis=1)[:, K - 1]", EVALUATION
    ),
    Mutant(
        "evaluation/metrics/frechet_distance.py", "inverse.append(1 / some.n)", "inverse.append(some.n)", EVALUATION
    ),
    Mutant("evaluation/metrics/spectrum_distance.py", "np.mean(gap**2)", "np.mean(gap)**2", EVALUATION),
    Mutant("evaluation/generation.py", "|{seed}|{plan.micro_batch}|", "|{plan.micro_batch}|", EVALUATION),
    Mutant("statistics/bootstrap.py", "resampled - resampled.mean()", "resampled + resampled.mean()", INTERVALS),
    # Training: laws, weights, averages, what is told, what is kept.
    Mutant("training/laws/cosine.py", "4 * (noisy - clean) / np.sin", "2 * (noisy - clean) / np.sin", LAWS),
    Mutant("training/laws/log_normal.py", "2 * P_std * (above - below)", "2 * P_std", LAWS),
    Mutant("training/laws/logit_normal.py", "+ np.log(shift)))", "+ 0 * np.log(shift)))", LAWS),
    Mutant("training/laws/spectral_instance.py", "sigma[:, 1:])", "sigma[:, 1:] * 1.01)", LAWS),
    Mutant("training/weights/sigmoid.py", "(sigma**2 + np.exp(-b))", "(sigma**2 + np.exp(b))", LAWS),
    Mutant("training/weights/sigmoid.py", "-2 * training_density", "-1 * training_density", LAWS),
    Mutant("training/averages.py", "** (exponent + 1)", "** exponent", LAWS),
    Mutant("training/objective.py", ">= self.drop", "< self.drop", LAWS),
    Mutant("training/objective.py", "return 1 / mean", "return 1.0", LAWS),
    Mutant("training/data.py", "draws.order(seed, epoch,", "draws.order(seed, 0,", TRAINING),
    Mutant("training/export.py", "average.values[name].to(value)", "value", TRAINING),
    Mutant("training/cascade.py", "images - condition", "images", TRAINING),
    Mutant("training/checkpoint.py", "torch.empty_like(value).copy_(restored[kind])", "restored[kind]", TRAINING),
    Mutant("training/trainer.py", 'if line["step"] <= self.step', "if line", TRAINING),
    # Distillation and adapters: forward substitution, what an error counts, what stays frozen and what is kept.
    Mutant("training/distillation.py", "rest - form.W[k + 1, j] * D", "rest + form.W[k + 1, j] * D", FOLLOWING),
    Mutant("training/distillation.py", "offset=-1).square()", "offset=-1).abs()", FOLLOWING),
    Mutant("training/distillation.py", "[row % calls for row in", "[0 * row for row in", FOLLOWING),
    Mutant("training/lora.py", "rank if alpha is None", "1 if alpha is None", ("test_lora.py",)),
    Mutant("training/checkpoint.py", "    if not frozen:", "    if frozen:", ("test_lora.py",)),
    Mutant("core/condition.py", "return index % len(self.values)", "return 0", ("test_condition.py",)),
    Mutant("rules/rule.py", "steps = 1 + np.floor", "steps = 0 + np.floor", ("test_conditional.py",)),
    # Fine-tuning: what an error weighs, what a teacher asks for, what is frozen, and the score of phase space.
    Mutant("workflows/finetune_round.py", "np.append(last[:-1], 1.0)", "np.append(last[:-1], 0.5)", FINETUNE),
    Mutant("workflows/finetune_round.py", "float(torch.hypot(form.q[-1], torch.ones(())))", "1.0", FINETUNE),
    Mutant("workflows/judge.py", "not any(d.low > 0 for", "not any(d.low > 1e9 for", FINETUNE),
    Mutant("training/plan_levels.py", "shares, self.elsewhere, (", "shares, 0.0, (", FINETUNE),
    Mutant("training/model_copy.py", "dtype = _dtype(", "dtype = torch.float64 if like else _dtype(", FINETUNE),
    Mutant("training/distillation.py", "rest - form.W[k + 1, j] * D", "rest + form.W[k + 1, j] * D", DISTILLATION),
    Mutant("training/distillation.py", "z[:, 0] = self.form.rho[0] * eps", "z[:, 0] = eps / 2", DISTILLATION),
    Mutant(
        "training/lora.py", 'value.requires_grad_(".lora_" in name)', "value.requires_grad_(True)", ("test_lora.py",)
    ),
    Mutant("training/score_matching.py", "(self.process.T - self.eps) * uniform", "self.process.T * uniform", PSLD),
    Mutant("training/score_matching.py", "self.process.kappa * self.process.mass", "self.process.kappa", PSLD),
    # Numbers that decide: noises that are kept apart, folds, weights of a bootstrap, widths of intervals, names in a store.
    Mutant("workflows/judge.py", "self.data.n, self.data.seed + 1)", "self.data.n, self.data.seed)", NUMBERS),
    Mutant("workflows/judge.py", "self.few, self.data.seed)", "self.few, self.data.seed + 1)", NUMBERS),
    Mutant("evaluation/metrics/neighbours.py", "_radii(within[np.ix_(keep, keep)])", "_radii(within)[keep]", NUMBERS),
    Mutant("evaluation/metrics/neighbours.py", "inside.sum(axis=1).mean() / K", "inside.sum(axis=1).mean()", NUMBERS),
    Mutant("evaluation/metrics/frechet_distance.py", "total - part for part", "total for part", NUMBERS),
    Mutant("evaluation/metrics/sliced_wasserstein.py", "rows[keep], LEVELS", "rows, LEVELS", NUMBERS),
    Mutant("statistics/jackknife.py", "(1 + CONFIDENCE) / 2)", "CONFIDENCE)", INTERVALS),
    Mutant("evaluation/stochastic_guard.py", "- n * np.outer(mean, mean)", "- np.outer(mean, mean)", NUMBERS),
    Mutant(
        "evaluation/stochastic_guard.py",
        "value = ours(once) - theirs(once)",
        "value = theirs(once) - ours(once)",
        NUMBERS,
    ),
    Mutant("evaluation/metrics/kernel.py", "np.square(weights) @ self.sizes", "weights @ self.sizes", NUMBERS),
    Mutant(
        "statistics/bootstrap.py",
        "[(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]",
        "[1 - CONFIDENCE, CONFIDENCE]",
        INTERVALS,
    ),
    Mutant("statistics/bootstrap.py", "size=(resamples, len(values))", "size=(resamples, len(values) // 2)", INTERVALS),
    Mutant("statistics/moments.py", "basis.T @ self.scatter @ basis", "basis.T @ basis", NUMBERS),
    Mutant("statistics/frechet.py", "np.sqrt(len(rows) - 1), mode", "np.sqrt(len(rows)), mode", NUMBERS),
    Mutant("statistics/sliced.py", "/ np.sqrt(squares)", "/ squares", ("test_statistics.py",)),
    Mutant("statistics/sliced.py", "v[:, first : first + BLOCK]", "v[:, :BLOCK]", ("test_memory.py",)),
    Mutant("rules/rule.py", "edges / edges[-1]", "edges / edges.sum()", ("test_rules.py",)),
    Mutant("rules/rule.py", '"widen": 0.0}\n        ends', '"widen": 1.0}\n        ends', ("test_conditional.py",)),
    Mutant("tuning/workbench.py", 'about = f"{self.settings.seed}|', 'about = f"|', NUMBERS),
    Mutant(
        "tuning/workbench.py",
        "{self.settings.rows(split)[:rows]}|{self.settings.micro_batch}",
        "{self.settings.rows(split)[:rows]}",
        NUMBERS,
    ),
    Mutant(
        "tuning/workbench.py",
        'digests: dict[str, Digest] = {self.by_measure(f"e{steps}")',
        'digests: dict[str, Digest] = {self.by_measure("e")',
        NUMBERS,
    ),
    Mutant("tuning/guard.py", "0.1 * max(abs(now.statistic)", "10 * max(abs(now.statistic)", ("test_guard.py",)),
    Mutant(
        "tuning/error_table.py", "np.interp(np.log(sigma), np.log(self.sigma)", "np.interp(sigma, self.sigma", NUMBERS
    ),
    Mutant("phase_space/compose.py", "(1 if deterministic else 2) * gamma", "2 * gamma", NUMBERS),
    Mutant("phase_space/compose.py", "(1 if deterministic else 2) * gamma", "1 * gamma", NUMBERS),
    Mutant(
        "phase_space/compose.py",
        "matrix(1 + gamma * h, -h / process.mass",
        "matrix(1 + gamma * h, h / process.mass",
        NUMBERS,
    ),
    Mutant("phase_space/updates.py", "-torch.expm1(-2 * rate * h), 0", "-torch.expm1(-rate * h), 0", NUMBERS),
    Mutant(
        "phase_space/updates.py", "-p.mass * torch.expm1(-2 * p.nu * h)", "-p.mass * torch.expm1(-p.nu * h)", NUMBERS
    ),
    Mutant("phase_space/updates.py", "p.mass * pull, h)", "pull, h)", NUMBERS),
    # What stays small: blocks of directions, rows of large images.
    Mutant(
        "tuning/surrogate.py",
        "self._modes.rotated(part.double() - mean)",
        "self._modes.rotated(part.double())",
        ("test_memory.py", *SURROGATE),
    ),
    Mutant("tuning/trajectory.py", "(one.score, one.way[-2])", "-one.score", ("test_trajectory.py",)),
    # The loop: noise of the wrong call, a lost row, a wrong elimination.
    Mutant("interop/native.py", "T[:-1, 0] = c[:-1] * scale[:, None]", "T[:-1, 0] = c[:-1]", ("test_conformance.py",)),
    Mutant("interop/pipeline_machine.py", "add_(x, alpha=u)", "add_(x)", ("test_conformance.py",)),
    Mutant(
        "interop/diffusers_scheduler.py",
        "self.timesteps = times.to(torch.float32)",
        "self.timesteps = times.round().float()",
        ("test_conformance.py",),
    ),
    Mutant("core/condition.py", "range(a, b) for", "range(0, b) for", ("test_condition.py",)),
    Mutant("core/loop.py", "call: int = k)", "call: int = 0)", LOOP),
    Mutant("core/program.py", "- share.unsqueeze(-1) * A[", "- share.unsqueeze(-1) / 2 * A[", LOOP),
    Mutant("plan/sampling.py", "part_indices = [rows[i] for i in part]", "part_indices = rows[: len(part)]", LOOP),
)
