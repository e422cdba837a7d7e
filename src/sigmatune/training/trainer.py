r"""The trainer: one loop for one processor or many machines, which survives a kill at any moment.

Every step uses the same images, levels and noises in any process (:mod:`sigmatune.training.draws`). So on a CPU, a
resumed run is bit-identical to an undisturbed one, and P processes with A accumulated parts each take rows :math:`[i
B/(PA), (i+1) B/(PA))` of the same batch. ``accelerate`` shares gradients, chooses the device and the precision
(``accelerate launch`` for many processes or machines; the run folder has to be one that all of them see).

It minimises an :class:`~sigmatune.training.objective.Objective`; the trainer itself is independent of noise.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from sigmatune.support import trackers
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.files import make_folder, write_text
from sigmatune.support.interrupts import deferred_interrupt
from sigmatune.support.pixels import unsound_weight
from sigmatune.training import checkpoint
from sigmatune.training.acceleration import accelerator
from sigmatune.training.averages import Average, trained
from sigmatune.training.data import Pictures
from sigmatune.training.objective import Objective
from sigmatune.training.recipe import Training
from sigmatune.training.run_log import LOG, Report, lines
from sigmatune.training.run_options import Hooks, RunOptions

logger = logging.getLogger(__name__)

FIRST_LINES = (1, 2, 5, 10, 20)
"""Steps after which the log has a line in any case, so that a slow training is seen to work."""

STOPPING = "stopping: this step ends and a checkpoint is written; Ctrl-C again stops at once."
"""Said at Ctrl-C."""


class Trainer:
    """Fits a network to an objective.

    Only parameters that require gradients are trained, averaged and kept in checkpoints
    (:mod:`sigmatune.training.lora`).

    Args:
        network: The network; its parameters are changed.
        objective: The objective.
        data: The images.
        settings: Batch, rates, precision, seed.
        folder: The run folder, created if missing. Training resumes from a checkpoint in it.
        options: Averages, checkpoints, identity, device.

    Raises:
        SigmaTuneError: if there is nothing to train, the batch cannot be shared, or the folder holds another training.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        objective: Objective,
        data: Pictures,
        settings: Training,
        folder: Path,
        options: RunOptions | None = None,
    ) -> None:
        learned = trained(network)
        if not learned:
            raise SigmaTuneError(
                "no parameter of the network requires a gradient, so there is nothing to train; add adapters, or call "
                "network.requires_grad_(True)."
            )
        self.bare, self.objective, self.data, self.settings = network, objective, data, settings
        options = options or RunOptions()
        self.folder, self.saving, self.flip = folder, options.saving, options.flip
        self.identity = checkpoint.identity(options.identity, network)
        self.steps = max(settings.images // settings.batch, 1)
        self.accelerator = accelerator(settings, self.saving, folder, options.device)
        self.part = self._share()
        before = checkpoint.peek(folder)
        if before is not None and before.identity not in (
            self.identity,
            options.identity,
        ):  # files that hold all weights, too
            raise SigmaTuneError(
                f"{folder} holds a training of another network, or with other data or another recipe, see recipe.yaml there; "
                "choose another folder, or delete it."
            )
        if before is not None and before.step > self.steps:
            raise SigmaTuneError(
                f"{folder / checkpoint.FILE} is of step {before.step}, and the training has {self.steps}; "
                "delete it to start again."
            )
        if settings.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own stub lacks it
        network.to(self.accelerator.device)
        self.averages = [Average(one.kind, one.options, learned) for one in options.averages]
        self.optimizer = torch.optim.AdamW(
            [value for _, value in learned], lr=settings.rate, betas=(settings.beta_1, settings.beta_2),
            weight_decay=settings.weight_decay, fused=self.accelerator.device.type in ("cpu", "cuda"),
        )  # fmt: skip
        self.step, self.seconds = 0, 0.0
        if before is not None:
            checkpoint.restore(folder, network, self.optimizer, self.averages)
            self.step, self.seconds = before.step, before.seconds
        running = torch.compile(network) if settings.compile else network
        self.network, self._stepper = self.accelerator.prepare(running, self.optimizer)
        if before is not None and before.scaler and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(before.scaler)
        self.saved = self.step

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return bool(self.accelerator.is_main_process)

    def run(self, hooks: Hooks | None = None, until: int | None = None) -> None:
        """Trains to the end, or to some step, and leaves a checkpoint there; at Ctrl-C, after the present step.

        Raises:
            KeyboardInterrupt: after that checkpoint; at once at a second Ctrl-C, or with several processes.
            SigmaTuneError: if the loss is no longer finite, or something cannot be written; the message names the last
                good checkpoint, which stays.
        """
        hooks = hooks or Hooks()
        end = self.steps if until is None else min(until, self.steps)
        if self.main:
            logger.info(
                "training in %s on %s: steps %d to %d of %d, %d images each",
                self.folder, self.accelerator.device, self.step, end, self.steps, self.settings.batch,
            )  # fmt: skip
        self._open_logs()
        self.network.train()
        with deferred_interrupt(STOPPING, defer=self.accelerator.num_processes == 1) as asked:
            self._walk(end, hooks, asked)
        self.accelerator.wait_for_everyone()
        if self.saving.trackers:
            self.accelerator.end_training()

    def _walk(self, end: int, hooks: Hooks, asked: Callable[[], bool]) -> None:
        """Takes the steps, and stops after the one in which that is asked."""
        began, first = time.monotonic() - self.seconds, self.step
        fresh = time.monotonic()
        losses: list[torch.Tensor] = []
        while self.step < end:
            losses.append(self._one())
            self.step += 1
            self.seconds = time.monotonic() - began
            stopped = asked()
            due = self.step % self.saving.every == 0 or self.step == end or stopped
            if due or self.step % self.saving.log == 0 or self.step in FIRST_LINES:
                speed = (self.step - first) * self.settings.batch / max(time.monotonic() - fresh, 1e-9)
                self._log(losses, speed, hooks)
                losses = []
            if hooks.step is not None and self.main:
                hooks.step(self.step)
            if due:  # last, so that a run killed before this repeats all of it
                self.save()
            if stopped:
                raise KeyboardInterrupt

    def save(self) -> None:
        """Replaces the checkpoint.

        Raises:
            SigmaTuneError: if it cannot be written, or a weight is NaN or infinite; the last good one is named.
        """
        if self.main and self.saved != self.step:
            self._sound()
            scaler = None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()
            state = checkpoint.State(self.step, self.seconds, self.identity, scaler)
            try:
                checkpoint.store(self.folder, state, self.bare, self.optimizer, self.averages)
            except SigmaTuneError as error:
                raise SigmaTuneError(f"{str(error).rstrip('.')}; {self._last()}.") from None
        self.saved = self.step
        self.accelerator.wait_for_everyone()

    def _sound(self) -> None:
        """Refuses weights that the last steps made NaN or infinite, although the losses before were finite."""
        broken = unsound_weight(self.bare) or next(
            (
                name
                for one in self.averages
                for name, value in one.values.items()
                if not bool(torch.isfinite(value).all())
            ),
            None,
        )
        if broken is not None:
            raise SigmaTuneError(
                f"the weight {broken} became NaN or infinite by step {self.step}; {self._last()}; try a smaller training.rate."
            )

    # ------------------------------------------------------------------------------------------------------------- a step

    def _one(self) -> torch.Tensor:
        """One step; returns this process's mean loss, still on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        torch.manual_seed(hash_of(self.settings.seed, self.step, self.accelerator.process_index))  # dropout
        total = torch.zeros((), device=self.accelerator.device)
        for rows in self._rows():
            batch = self.data.batch(self.settings.seed, self.step, rows, self.settings.batch, flip=self.flip)
            with self.accelerator.accumulate(self.network):
                loss = self.objective.losses(self.network, batch, self.settings.seed).mean()
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    most = self.settings.clip or math.inf
                    self.norm = self.accelerator.clip_grad_norm_(self.bare.parameters(), most)
                self._stepper.step()
                self._stepper.zero_grad()
            total += loss.detach()
        for average in self.averages:
            average.update(self.step + 1, self.bare.named_parameters())
        return total / self.settings.accumulation

    def rate(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        settings = self.settings
        rise = min((step + 1) / settings.warmup, 1.0) if settings.warmup else 1.0
        fall = 0.5 + 0.5 * math.cos(math.pi * step / self.steps) if settings.schedule == "cosine" else 1.0
        return settings.rate * rise * fall

    def _share(self) -> int:
        """Rows of a batch that one process handles at a time."""
        parts = int(self.accelerator.num_processes) * self.settings.accumulation
        if self.settings.batch % parts:
            raise SigmaTuneError(
                f"a batch of {self.settings.batch} images cannot be shared by {self.accelerator.num_processes} processes "
                f"in {self.settings.accumulation} parts each; choose a batch that is a multiple of {parts}."
            )
        return self.settings.batch // parts

    def _rows(self) -> list[range]:
        first = int(self.accelerator.process_index) * self.settings.accumulation
        return [range((first + i) * self.part, (first + i + 1) * self.part) for i in range(self.settings.accumulation)]

    # --------------------------------------------------------------------------------------------------------------- logs

    def _log(self, losses: list[torch.Tensor], speed: float, hooks: Hooks) -> None:
        """Writes a line after checking that all losses were finite."""
        stacked = self.accelerator.reduce(torch.stack(losses), reduction="mean").tolist()
        bad = next((i for i, loss in enumerate(stacked) if not math.isfinite(loss)), None)
        if bad is not None:
            at = self.step - len(stacked) + bad + 1
            raise SigmaTuneError(
                f"the loss became {stacked[bad]} at step {at}; {self._last()}; try a smaller training.rate."
            )
        left = (self.steps - self.step) * self.settings.batch / max(speed, 1e-9)
        mean = sum(stacked) / len(stacked)
        rate, norm = self.rate(self.step - 1), float(self.norm)
        report = Report(self.step, self.steps, mean, rate, norm, speed, left)
        if not self.main:
            return
        line = {
            "step": self.step,
            "images": self.step * self.settings.batch,
            "losses": stacked,
            "rate": rate,
            "norm": norm if math.isfinite(norm) else None,  # of a step that fp16 loss scaling skipped
        }
        try:
            with (self.folder / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise SigmaTuneError(f"cannot write {self.folder / LOG}: {error.strerror}; {self._last()}.") from None
        if self.saving.trackers:
            values = {"loss": mean, "rate": rate, "gradient norm": norm, "images per second": speed}
            self.accelerator.log(values, step=self.step)
        if hooks.log is not None:
            hooks.log(report)

    def _open_logs(self) -> None:
        """Opens the log at the step from which the run resumes: later lines of a killed run are rewritten."""
        if self.main:
            make_folder(self.folder)
            kept = [line for line in lines(self.folder) if line["step"] <= self.step]
            write_text(self.folder / LOG, "".join(json.dumps(line) + "\n" for line in kept))
        if self.saving.trackers:
            given = trackers.options(self.saving.trackers, self.folder)
            with trackers.starting(self.saving.trackers):
                self.accelerator.init_trackers(trackers.PROJECT, init_kwargs=given)

    def _last(self) -> str:
        there = checkpoint.peek(self.folder)
        if there is None:
            return "no checkpoint was written yet"
        return f"the last good checkpoint is {self.folder / checkpoint.FILE}, of step {there.step}"


def hash_of(seed: int, step: int, process: int) -> int:
    """A seed for torch's own draws (dropout), a function of seed, step and process."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + process * 0x94D049BB133111EB) % 2**63
