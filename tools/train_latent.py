"""Trains the bundled latent model: ``python tools/train_latent.py --data cifar10.npz --out FOLDER --minutes 8``.

Two stages, each a plain loop, and a stock diffusers ``DiTPipeline`` at the end:

1. an AutoencoderKL, 32 x 32 x 3 pixels to 8 x 8 x 4 latents, on mean squared error plus a little KL;
2. a class-conditional DiT on the latents, scaled to unit variance, that predicts v = alpha eps - s x0 at continuous
   timesteps of DDPM's linear path. One label in ten is dropped (to the pipeline's null class), for guidance.

The noise levels are drawn from a log-normal law in sigma, one in ten log-uniformly over the whole path. The saved weights
are the exponential moving average, in float16. The pipeline's null class is number 1000 whatever the data have, so the table
of labels has 1001 rows; those that no image uses are zero.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

from train import Path_, load_images

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NULL = 1000
VAE = {
    "block_out_channels": (16, 32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 32,
}
DIT = {
    "num_attention_heads": 4,
    "attention_head_dim": 20,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 3,
    "sample_size": 8,
    "patch_size": 2,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": NULL,
    "norm_type": "ada_norm_zero",
    "norm_elementwise_affine": False,
}


def rates(minutes: float, peak: float) -> Iterator[float]:
    """Learning rates: a warm-up, then a cosine in the elapsed share of the time."""
    began, step = time.monotonic(), 0
    while (share := (time.monotonic() - began) / (60 * minutes)) < 1:
        step += 1
        yield peak * min(1.0, step / 100) * (0.5 + 0.5 * math.cos(math.pi * share))


def fit(
    model: torch.nn.Module, loss: Callable[[], torch.Tensor], minutes: float, peak: float
) -> tuple[torch.nn.Module, dict]:
    """Minimises a loss for some minutes; returns the moving average of the weights and what it took."""
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-3)
    step, running = 0, None
    for rate in rates(minutes, peak):
        for group in optimizer.param_groups:
            group["lr"] = rate
        value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        decay = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
        running = value.item() if running is None else 0.99 * running + 0.01 * value.item()
        if step % 200 == 0:
            print(f"step {step} loss {running:.4f}", flush=True)
    return average, {"steps": step, "loss": running}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="cifar10.npz from tools/fetch_cifar10.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for the diffusers pipeline")
    parser.add_argument("--minutes", type=float, default=8.0, help="wall time; two fifths of it for the autoencoder")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    images = load_images("cifar10", args.data)
    with np.load(args.data) as archive:
        labels = torch.from_numpy(archive["train_labels"].astype(np.int64))

    vae = AutoencoderKL(**VAE).to(memory_format=torch.channels_last)
    images = images.contiguous(memory_format=torch.channels_last)

    def reconstruction() -> torch.Tensor:
        x = images[torch.randint(len(images), (16,), generator=generator)]
        law = vae.encode(x).latent_dist
        return (vae.decode(law.sample(generator)).sample - x).square().mean() + 1e-5 * law.kl().mean() / 256

    vae, autoencoder = fit(vae, reconstruction, 0.4 * args.minutes, 3e-3)
    vae = vae.half().float()
    with torch.no_grad():
        laws = [vae.encode(part).latent_dist for part in images.split(500)]
        mean, std = (torch.cat([getattr(law, name) for law in laws]) for name in ("mean", "std"))
        error = (vae.decode(mean[:500]).sample - images[:500]).square().mean().sqrt().item()
    scale = 1 / (mean + std * torch.randn(mean.shape, generator=generator)).std().item()
    vae.register_to_config(scaling_factor=scale)
    print(f"root mean square error of the autoencoder {error:.4f}", flush=True)

    scheduler = DDIMScheduler(beta_schedule="linear", prediction_type="v_prediction", clip_sample=False)
    path, dit = Path_(scheduler), DiTTransformer2DModel(**DIT)

    def denoising() -> torch.Tensor:
        rows = torch.randint(len(mean), (64,), generator=generator)
        x0 = scale * (mean[rows] + std[rows] * torch.randn(64, 4, 8, 8, generator=generator))
        y = torch.where(torch.rand(64, generator=generator) < 0.1, NULL, labels[rows])
        eps, sigma = torch.randn(x0.shape, generator=generator), path.draw(64, (-0.2, 1.2), generator)
        t = path.timestep(sigma).float()
        alpha = (1 + sigma**2).rsqrt().float().view(-1, 1, 1, 1)
        s = (sigma * (1 + sigma**2).rsqrt()).float().view(-1, 1, 1, 1)
        v = dit(alpha * x0 + s * eps, timestep=t, class_labels=y).sample
        return (v - (alpha * eps - s * x0)).square().mean()

    dit, transformer = fit(dit, denoising, 0.6 * args.minutes, 2e-3)
    with torch.no_grad():
        for name, parameter in dit.named_parameters():
            if "embedding_table" in name:
                parameter[len(CLASSES) : NULL] = 0
    args.out.mkdir(parents=True, exist_ok=True)
    pipeline = DiTPipeline(
        transformer=dit.half(), vae=vae.half(), scheduler=scheduler, id2label=dict(enumerate(CLASSES))
    )
    pipeline.save_pretrained(args.out, safe_serialization=True)
    summary = {
        "minutes": args.minutes,
        "seed": args.seed,
        "threads": torch.get_num_threads(),
        "autoencoder": {**autoencoder, "rmse": error},
        "transformer": transformer,
    }
    (args.out / "training.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
