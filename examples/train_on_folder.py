# %% [markdown]
# # Train on a folder of images
#
# From a folder of images to a model of your own: measure the spectrum of the images, train with noise levels that
# follow it, and sample with one schedule per image. The folder here holds coloured discs, drawn by the first cell;
# put your own images in its place.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

import sigmatune as st
from sigmatune.rules import SpectralRule
from sigmatune.spectra.mixture import Mixture
from sigmatune.training.data import load
from sigmatune.training.recipe import loads

folder = Path("discs")
folder.mkdir(exist_ok=True)
draw = np.random.default_rng(0)
for i in range(256):
    image = Image.new("RGB", (64, 64), "white")
    radius, (x, y) = draw.integers(12, 24), draw.integers(24, 40, 2)
    ImageDraw.Draw(image).ellipse(
        (x - radius, y - radius, x + radius, y + radius), fill=tuple(draw.integers(0, 200, 3))
    )
    image.resize((8, 8), Image.Resampling.BOX).save(folder / f"{i:03d}.png")

# %% [markdown]
# The spectrum is the power of the images at each frequency. The noise law `spectral-instance` gives every image noise
# levels that fit its own spectrum.

# %%
spectrum = load(str(folder)).spectrum()

# %% [markdown]
# A recipe holds all settings, here those of a training of seconds. Raise `training.images` to a million for a
# training that is worth its name. On the command line this is `sigmatune train recipe.yaml`; a stopped training
# resumes in its run folder.

# %%
recipe = loads("""
name: discs
noise: {law: spectral-instance}
loss: {weight: sigmoid-spectral, density: true}
model: {channels: [16, 32], head: 16, layers: 1, ends: true}
training: {images: 12000, batch: 32, rate: 4.0e-3, warmup: 20}
previews: {every: 0}
saving: {trackers: []}
""")
trained = st.train(recipe, "discs.run", source=str(folder), progress=False)
model = st.load(str(trained))
print(f"trained on {len(list(folder.iterdir()))} images; the folder of the model, as diffusers reads it:")
print(sorted(part.name for part in trained.iterdir()))

# %% [markdown]
# A rule draws a spectrum for every image and builds its schedule from it.

# %%
rule = SpectralRule.trained(model, 12, Mixture.load(trained / "spectra.json"))
images = st.sample(model, rule, 16).permute(0, 2, 3, 1).clamp(-1, 1)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.6), width_ratios=[1, 2])
left.semilogy(spectrum.power, "o-")
left.set(xlabel="frequency", ylabel="power", title="spectrum of the folder")
right.imshow((images.reshape(2, 8, 8, 8, 3).permute(0, 2, 1, 3, 4).reshape(16, 64, 3) + 1) / 2)
right.set(xticks=[], yticks=[], title="16 samples")
figure.tight_layout()
figure.savefig("train_on_folder.png", dpi=80)
