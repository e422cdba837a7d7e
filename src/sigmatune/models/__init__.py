"""Models: everything that becomes a :class:`~sigmatune.core.denoiser.Denoiser`."""

from __future__ import annotations

import inspect
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sigmatune.core.denoiser import Denoiser
from sigmatune.core.origin import Origin
from sigmatune.models.bundled import bundled_folder, bundled_names
from sigmatune.models.exact import is_exact, load_exact
from sigmatune.models.whole_timesteps import on_whole_timesteps
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.folders import recover
from sigmatune.support.imports import import_path, imported

logger = logging.getLogger(__name__)

IMPORT_PATH = r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*"


def load(source: Any, *, integer_time: bool = False, **options: Any) -> Denoiser:
    """Turns a model of any supported kind into a denoiser.

    Args:
        source: A denoiser (returned as it is); the name of a bundled model, ``"cifar10"`` or ``"digits"``; that of an exact
            denoiser, ``"exact:cifar10-mixture-16"`` (:func:`~sigmatune.models.exact.load_exact`); a diffusers folder or hub id
            (:func:`~sigmatune.models.diffusers_networks.load_diffusers`, and for pipelines with a condition or latents
            :func:`~sigmatune.models.load_pipeline.load_pipeline`); a diffusers pipeline in memory
            (:func:`~sigmatune.models.load_pipeline.from_pipeline`); a single ``.safetensors`` file
            (:mod:`~sigmatune.models.single_file`); a function D(x, sigma) with ``shape=``, or its import path,
            ``package.module:function``
            (:func:`~sigmatune.models.function.from_callable`), or one of (x_t, t) with ``predicts="velocity"``, ``"noise"``,
            ``"v"`` or ``"score"`` (:func:`~sigmatune.models.function.from_network_function`).
        integer_time: Use whole timesteps only, for programs that round t, such as ComfyUI and Forge
            (:mod:`~sigmatune.models.whole_timesteps`); plans tuned on this model run there exactly as they were measured.
        options: The options of the function that does the work; an unknown one is a TypeError.

    Raises:
        SigmaTuneError: if the source is none of these, or cannot be loaded; one sentence says why.
    """
    if isinstance(source, Denoiser):
        if options:
            raise SigmaTuneError(f"a denoiser is ready to use and takes no options such as {next(iter(options))}=.")
        return on_whole_timesteps(source) if integer_time else source
    name = source if isinstance(source, str | os.PathLike) else type(source).__name__
    logger.info("loading %s", name)
    began = time.monotonic()
    model = _loaded(source, options)
    if integer_time:
        model = on_whole_timesteps(model)
    model.origin = model.origin or _origin(source, {**options, **({"integer_time": True} if integer_time else {})})
    logger.info("loaded %s in %.1f s: %s", name, time.monotonic() - began, _described(model))
    return model


def _loaded(source: Any, options: dict[str, Any]) -> Denoiser:
    if is_exact(source):
        return load_exact(source, **options)
    if isinstance(source, str) and re.fullmatch(IMPORT_PATH, source) and not Path(source).exists():
        thing = imported(source)
        return thing if isinstance(thing, Denoiser) else _loaded(thing, options)
    if isinstance(source, str | os.PathLike):
        from sigmatune.models.diffusers_networks import load_diffusers
        from sigmatune.models.load_pipeline import load_pipeline
        from sigmatune.models.single_file import is_single_file
        from sigmatune.models.source import needs_pipeline

        if is_single_file(source):
            return load_pipeline(source, **options)

        recover(Path(source).expanduser())  # finish what a killed process was replacing
        place: str | os.PathLike[str] = bundled_folder(str(source)) if _is_name(source) else source
        return (load_pipeline if needs_pipeline(place) else load_diffusers)(place, **options)
    if hasattr(source, "scheduler") and hasattr(source, "components"):
        from sigmatune.models.load_pipeline import from_pipeline

        return from_pipeline(source, **options)
    if callable(source):
        return _function(source, options)
    raise SigmaTuneError(
        "a model is a denoiser, a bundled name, a diffusers folder, pipeline or hub id, a .safetensors file, or a function, "
        f"not a {type(source).__name__}."
    )


def _origin(source: Any, options: dict[str, Any]) -> Origin:
    if isinstance(source, str | os.PathLike):
        place = Path(source).expanduser()
        absolute = place.exists() and not _is_name(source) and not is_exact(source)
        return Origin(str(place.absolute()) if absolute else str(source), options=options)
    path = import_path(source)
    return Origin(path, f"the function {getattr(source, '__qualname__', type(source).__name__)}" if callable(source)
                  else f"a {type(source).__name__}", options)  # fmt: skip


def _function(source: Any, options: dict[str, Any]) -> Denoiser:
    from sigmatune.models.function import from_callable, from_network_function

    if hasattr(source, "config") and hasattr(source, "save_pretrained"):  # a network of diffusers without its process
        raise SigmaTuneError(
            f"a {type(source).__name__} alone has neither a noise path nor conditions; pass its pipeline, or a function around "
            "it with shape= and predicts=."
        )
    if "shape" not in options:
        raise SigmaTuneError(
            "a function D(x, sigma) needs the shape of one sample, such as shape=(3, 32, 32), and if it returns something "
            'other than the clean data, predicts="velocity", "noise", "v" or "score"; on the command line pass my:model, where '
            "my.py says model = st.load(...)."
        )
    given = dict(options)
    predicts = given.pop("predicts", "data")
    if predicts == "data":
        _check_options(from_callable, given, "that returns the data; other kinds pass predicts=")
        return from_callable(source, **given)
    _check_options(from_network_function, given, f"with predicts={predicts!r}")
    return from_network_function(source, predicts=predicts, **given)


def _check_options(loader: Callable[..., Denoiser], given: dict[str, Any], kind: str) -> None:
    """Names what a function takes, where Python would name a loader that the caller does not know.

    Raises:
        TypeError: for an unknown option.
    """
    names = [name for name in inspect.signature(loader).parameters if name not in ("function", "predicts")]
    for name in given:
        if name not in names:
            raise TypeError(f"st.load knows no option {name}= of a function {kind}; it knows {', '.join(names)}.")


def _described(model: Denoiser) -> str:
    path = model.path
    ends = f"{path.sigma_max:.4g} to {path.sigma_min:.4g}"
    return f"shape {tuple(model.shape)}, {model.arithmetic()} on {model.device}, noise path {type(path).__name__} from {ends}"


def _is_name(source: str | os.PathLike[str]) -> bool:
    """Whether a source reads as the name of a bundled model rather than as a folder or a hub id."""
    if not isinstance(source, str):
        return False
    return source in bundled_names() or not ("/" in source or Path(source).exists())


__all__ = ["bundled_names", "load"]
