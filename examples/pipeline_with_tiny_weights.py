# %% [markdown]
# # From a prompt to a plan to an image
#
# Here a Stable Diffusion pipeline is tuned with its prompts and its guidance, and then runs the plan. To need no
# download, it is built from tiny networks with random weights, so the image shows nothing. With your own pipeline,
# replace `tiny_pipeline()` by `StableDiffusionPipeline.from_pretrained(...)`; everything after it stays as it is.

# %%
import string

import diffusers
import matplotlib.pyplot as plt
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import sigmatune as st
from sigmatune.tuning import TuningSettings


def tokenizer():
    letters = string.ascii_lowercase
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=32)


def tiny_pipeline():
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=54, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, bos_token_id=52, eos_token_id=53, pad_token_id=53,
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=16, attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=4,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4, 4, 4), down_block_types=("DownEncoderBlock2D",) * 3, norm_num_groups=2,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, sample_size=32,
    )  # fmt: skip
    scheduler = diffusers.PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    return diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer(), unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


pipe = tiny_pipeline()
pipe.set_progress_bar_config(disable=True)

# %% [markdown]
# With guidance every step calls the network twice. A budget of 12 calls therefore gives a plan of 6 steps. The
# prompts are those that the plan is tuned on; take some that are typical for what you draw. `few` keeps this example
# short; leave `settings` out for your own pipeline, and add `--dry-run` to the command or read [what it will
# cost](https://github.com/sigmatune/sigmatune/blob/main/docs/tuning.md#what-it-will-cost) before.

# %%
prompts = ["a red fox in the snow", "an old harbour at night", "portrait of a baker"]
model = st.load(pipe, prompts=prompts, negative_prompt="blur", guidance=5.0)
few = TuningSettings(tuning=8, validation=8, held_out=12, reference_steps=12)
plan = st.tune(model, calls=12, solver="dpmpp2m", settings=few, progress=False)
print(plan.describe())
plan.save("pipeline.json")

# %% [markdown]
# A scheduler made from the plan goes into the pipeline. `plan.calls` is what the pipeline calls
# `num_inference_steps`.

# %%
pipe.scheduler = st.interop.diffusers.scheduler(st.load_plan("pipeline.json"), pipe)
image = pipe(
    "a red fox in the snow",
    negative_prompt="blur",
    guidance_scale=5.0,
    num_inference_steps=plan.calls,
    generator=torch.Generator().manual_seed(0),
).images[0]

figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.6), width_ratios=[2, 1])
left.plot(plan.schedule.sigmas[:-1], "o-")
left.set(xlabel="step", ylabel="noise level", yscale="log", title="the plan")
right.imshow(image)
right.set(xticks=[], yticks=[], title="random weights")
figure.tight_layout()
figure.savefig("pipeline_with_tiny_weights.png", dpi=80)
