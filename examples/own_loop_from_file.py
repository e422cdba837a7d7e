# %% [markdown]
# # Your own loop, from the plan file
#
# A plan file is JSON. A program that runs it needs no SigmaTune. This example writes one for a model whose answer is
# known in closed form: twelve points on a circle. Any function D(x, sigma) that estimates the data x0 from x = x0 +
# sigma eps is a model.

# %%
import json
import math
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import sigmatune as st

ANGLES = np.arange(12) * 2 * math.pi / 12
POINTS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def denoise(x, sigma):
    """The mean of the 12 points, each weighted by its likelihood given x."""
    distances = ((x[:, None] - POINTS) ** 2).sum(axis=-1)
    likelihood = np.exp(-(distances - distances.min(axis=1, keepdims=True)) / (2 * sigma**2))
    return likelihood @ POINTS / likelihood.sum(axis=1, keepdims=True)


def for_sigmatune(x, sigma):
    rows = [denoise(row[None].numpy(), float(level)) for row, level in zip(x, sigma.view(-1), strict=True)]
    return torch.from_numpy(np.concatenate(rows))


model = st.load(for_sigmatune, shape=(2,), sigma_min=0.01, sigma_max=10.0)
st.tune(model, calls=6, solver="dpmpp2m", effort="low", progress=False).save("own_loop.json")

# %% [markdown]
# From here on the loop uses `json`, `math` and `numpy`. The sample starts at the first level times unit noise. The
# first step and the step to 0 are of first order. [The page on own
# loops](https://github.com/sigmatune/sigmatune/blob/main/docs/own_loop.md) says what changes for networks that
# predict noise or velocity.


# %%
def run(file, denoise, noise):
    plan = json.loads(Path(file).read_text())
    sigmas, last = plan["sigmas"], None
    x = sigmas[0] * noise
    path = [x]
    for k, (sigma, to) in enumerate(pairwise(sigmas)):
        D = denoise(x, sigma)
        mixed = D
        if last is not None and to > 0:
            half = math.log(sigma / to) / math.log(sigmas[k - 1] / sigma) / 2
            mixed = (1 + half) * D - half * last
        x, last = to / sigma * x + (1 - to / sigma) * mixed, D
        path.append(x)
    return np.stack(path)


path = run("own_loop.json", denoise, np.random.default_rng(0).standard_normal((200, 2)))
distance = np.linalg.norm(path[-1][:, None] - POINTS, axis=-1).min(axis=1)
print(f"{len(path) - 1} calls; mean distance from the nearest of the 12 points: {distance.mean():.3f}")

# %%
figure, axes = plt.subplots(1, len(path), figsize=(9, 1.7))
for axis, x, title in zip(axes, path, ["noise", *(f"call {k}" for k in range(1, len(path)))], strict=True):
    half = 1.4 * max(1, np.abs(x).max())
    axis.plot(*POINTS.T, "o", color="tab:orange", markersize=3)
    axis.plot(*x.T, ".", color="tab:blue", markersize=2)
    axis.set(title=title, xlim=(-half, half), ylim=(-half, half), xticks=[], yticks=[], aspect="equal")
figure.tight_layout()
figure.savefig("own_loop_from_file.png", dpi=80)
