# %% [markdown]
# # A first plan
#
# A plan says at which noise levels a model is called, and how a solver steps between them. This example tunes one for
# the bundled model of handwritten digits, for four network calls per image, and compares three rows of images from
# the same noises: a schedule that many programs use, the tuned plan, and 64 calls. It takes seconds on a CPU.

# %%
import matplotlib.pyplot as plt

import sigmatune as st

model = st.load("digits")
plan = st.tune(model, calls=4, solver="dpmpp2m", effort="low", progress=False)
print(plan.describe())

# %% [markdown]
# The evidence compares the plan with the best of the static defaults, on noise that neither of them was chosen on. If
# nothing beats that default, `st.tune` returns it and says "no gain".

# %%
print(plan.evidence["verdict"])
plan.save("first_plan.json")

# %% [markdown]
# Any schedule runs with any solver, tuned or not. Row *i* of a sample depends on the seed and on *i* alone, so the
# three rows below start from the same noises.


# %%
def untuned(steps):
    return st.compile_plan(st.build_schedule("karras", steps, model.path), "dpmpp2m", model)


rows = {"Karras,\n4 calls": untuned(4), "tuned,\n4 calls": plan, "Karras,\n64 calls": untuned(64)}
figure, axes = plt.subplots(len(rows), 1, figsize=(7, 3))
for axis, (title, each) in zip(axes, rows.items(), strict=True):
    images = st.sample(model, each, n=12, seed=1)
    axis.imshow(images.permute(1, 2, 0, 3).reshape(8, -1), cmap="gray", vmin=-1, vmax=1)
    axis.set_ylabel(title, rotation=0, ha="right", va="center")
    axis.set(xticks=[], yticks=[])
figure.tight_layout()
figure.savefig("first_plan.png", dpi=80)
