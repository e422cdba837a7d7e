"""``sigmatune models``: what can be loaded by name."""

from __future__ import annotations

import json

from sigmatune.cli.shared_options import JsonForTable


def models(as_json: JsonForTable = False) -> None:
    """List the models that can be loaded by name; folders, hub ids and functions of your own work, too."""
    from sigmatune.models.catalogue import listed

    known = listed()
    if as_json:
        print(json.dumps([model.to_dict() for model in known]))
        return
    width = max(len(model.name) for model in known)
    for model in known:
        shape = " x ".join(map(str, model.shape))
        size = f"{model.parameters / 1e6:.1f} M weights" if model.parameters else "exact"
        print(f"{model.name:{width}}  {shape:12}  {size:14}  {model.about}")
        if not model.here:
            print(f"{'':{width}}  to build it: {model.get}")
    print(
        "Also: the folder of a diffusers model or pipeline, a .safetensors file, a hub id; in Python a pipeline, a function."
    )
