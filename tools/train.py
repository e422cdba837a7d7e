"""Trains one of the bundled models: ``python tools/train.py cifar10 --data cifar10.npz --minutes 95``.

A plain script on purpose: one loop, one loss. The network predicts v on the VP path of DDPM,

    z = alpha x0 + s eps,   v = alpha eps - s x0,   loss = E || v_theta(z; t) - v ||^2,

at continuous timesteps. The noise levels are drawn from a log-normal law in sigma = s / alpha (as EDM does; the
v-loss is EDM's weight with sigma_data = 1), one in ten log-uniformly over the whole path so that no level is left
untrained. The weights that are saved are the exponential moving average, in float16, as a diffusers pipeline folder.

The learning rate falls as a cosine in the *elapsed share* of the budget, which is given in minutes or in images; the run
checkpoints every ``--save-every`` seconds and continues from the checkpoint after a kill.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

PRESETS = {
    "cifar10": {
        "unet": {
            "sample_size": 32,
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": (16, 48, 128),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            "attention_head_dim": 32,
            "norm_num_groups": 8,
        },
        "batch": 48,
        "learning_rate": 1e-3,
        "sigma_law": (-0.8, 1.3),
        "flip": True,
    },
    "digits": {
        "unet": {
            "sample_size": 8,
            "in_channels": 1,
            "out_channels": 1,
            "block_out_channels": (16, 32),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": 16,
            "norm_num_groups": 8,
        },
        "batch": 64,
        "learning_rate": 4e-3,
        "sigma_law": (-0.8, 1.3),
        "flip": False,
    },
}


def load_images(name: str, data: Path | None) -> torch.Tensor:
    """Returns the training images as float32 (n, C, H, W) in [-1, 1]."""
    if name == "digits":
        from sklearn.datasets import load_digits

        return torch.from_numpy(load_digits().images[:, None] / 8.0 - 1.0).float()
    if data is None:
        raise SystemExit("cifar10 needs --data cifar10.npz; tools/fetch_cifar10.py writes it")
    with np.load(data) as archive:
        return torch.from_numpy(archive["train"]).permute(0, 3, 1, 2).float() / 127.5 - 1.0


class Path_:
    """The VP path of a diffusers DDPM scheduler at continuous t, log sigma interpolated between the table's entries."""

    def __init__(self, scheduler: DDPMScheduler) -> None:
        alphas = scheduler.alphas_cumprod.double()
        self.log_sigma = 0.5 * torch.log((1 - alphas) / alphas)

    def timestep(self, sigma: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.interp(sigma.log().numpy(), self.log_sigma.numpy(), np.arange(len(self.log_sigma))))

    def draw(self, n: int, law: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
        low, high = self.log_sigma[0].item(), self.log_sigma[-1].item()
        normal = law[0] + law[1] * torch.randn(n, generator=generator, dtype=torch.float64)
        uniform = low + (high - low) * torch.rand(n, generator=generator, dtype=torch.float64)
        everywhere = torch.rand(n, generator=generator) < 0.1
        return torch.where(everywhere, uniform, normal).clamp(low, high).exp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=PRESETS)
    parser.add_argument("--data", type=Path, help="cifar10.npz from tools/fetch_cifar10.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for the diffusers pipeline and the checkpoint")
    parser.add_argument("--minutes", type=float, help="budget in minutes of wall time")
    parser.add_argument("--images", type=int, help="budget in images seen (instead of --minutes)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save-every", type=float, default=300.0, help="seconds between checkpoints")
    args = parser.parse_args()
    if (args.minutes is None) == (args.images is None):
        parser.error("give exactly one of --minutes and --images")

    preset = PRESETS[args.name]
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    images = load_images(args.name, args.data)
    scheduler = DDPMScheduler(
        num_train_timesteps=1000, beta_schedule="linear", prediction_type="v_prediction", clip_sample=False
    )
    path = Path_(scheduler)
    device = torch.device(args.device)
    model = UNet2DModel(**preset["unet"]).to(device)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=preset["learning_rate"], betas=(0.9, 0.99), weight_decay=1e-3)

    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "checkpoint.pt"
    step, elapsed = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        step, elapsed = state["step"], state["elapsed"]
        print(f"resumed at step {step}", flush=True)

    def save() -> None:
        state = {
            "model": model.state_dict(),
            "ema": ema.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": generator.get_state(),
            "step": step,
            "elapsed": elapsed,
        }
        torch.save(state, args.out / "checkpoint.tmp")
        (args.out / "checkpoint.tmp").replace(checkpoint)
        half = copy.deepcopy(ema).half().cpu()
        DDPMPipeline(unet=half, scheduler=scheduler).save_pretrained(args.out / "pipeline", safe_serialization=True)

    batch, began, running = preset["batch"], time.monotonic() - elapsed, None
    saved = reported = time.monotonic()
    while True:
        elapsed = time.monotonic() - began
        share = step * batch / args.images if args.images else elapsed / (60 * args.minutes)
        if share >= 1:
            break
        rate = preset["learning_rate"] * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = rate

        x0 = images[torch.randint(len(images), (batch,), generator=generator)]
        if preset["flip"]:
            x0 = torch.where(torch.rand(batch, 1, 1, 1, generator=generator) < 0.5, x0.flip(-1), x0)
        eps = torch.randn(x0.shape, generator=generator)
        sigma = path.draw(batch, preset["sigma_law"], generator)
        t = path.timestep(sigma).float()
        alpha = (1 + sigma**2).rsqrt().float().view(-1, 1, 1, 1)
        s = (sigma * (1 + sigma**2).rsqrt()).float().view(-1, 1, 1, 1)
        z, v = alpha * x0 + s * eps, alpha * eps - s * x0

        z = z.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            predicted = model(z, t.to(device)).sample
        loss = (predicted.float() - v.to(device)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        decay = min(0.9995, (1 + step) / (10 + step))
        with torch.no_grad():
            for average, value in zip(ema.parameters(), model.parameters(), strict=True):
                average.lerp_(value, 1 - decay)

        value = loss.item()
        if not math.isfinite(value):
            raise SystemExit(f"the loss became {value} at step {step}; the last checkpoint is {checkpoint}")
        running = value if running is None else 0.99 * running + 0.01 * value
        now = time.monotonic()
        if now - reported > 30:
            print(f"step {step}  images {step * batch}  loss {running:.4f}  share {share:.3f}", flush=True)
            reported = now
        if now - saved > args.save_every:
            save()
            saved = now
    save()
    summary = {"steps": step, "images": step * batch, "seconds": round(elapsed, 1), "loss": running, "seed": args.seed}
    (args.out / "training.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
