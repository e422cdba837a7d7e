"""A network's prediction type as fields of a configuration, which hold names and numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigmatune.models.predictions import Prediction, edm, predictions
from sigmatune.support.errors import SigmaTuneError


def fields_of(prediction: Prediction) -> tuple[str, float | None, int]:
    """A prediction for JSON: (diffusers' name, sigma_data, sign); sigma_data is None for all but EDM's."""
    if not prediction.name.startswith("edm("):
        return prediction.name, None, 1
    data, sign = (field.partition("=")[2] for field in prediction.name[4:-1].split(", "))
    return "epsilon" if int(sign) == 1 else "v_prediction", float(data), int(sign)


def prediction_of(kind: str, sigma_data: float | None, sign: int) -> Prediction:
    """The prediction of such fields; ``epsilon`` and ``v_prediction`` with a sigma_data are EDM's, as in diffusers.

    Raises:
        SigmaTuneError: for an unknown name.
    """
    if kind != "edm" and sigma_data is None:
        return predictions[kind]
    signs = {"edm": sign, "epsilon": 1, "v_prediction": -1}
    if kind not in signs:
        raise SigmaTuneError(f"an EDM model predicts epsilon or v_prediction, not {kind!r}.")
    return edm(0.5 if sigma_data is None else sigma_data, sign=signs[kind])


def record_of(prediction: Prediction) -> dict[str, Any]:
    """A prediction as a plan file records it: its name, and for EDM's also sigma_data and the sign of c_out."""
    name, data, sign = fields_of(prediction)
    return {"name": "edm" if data is not None else name, **({} if data is None else {"sigma_data": data, "sign": sign})}


def recorded(tuned_for: Mapping[str, Any] | None) -> Prediction | None:
    """The prediction in a plan's ``tuned_for``; None where it records none.

    Raises:
        SigmaTuneError: if the record is none that SigmaTune writes.
    """
    stated = tuned_for.get("prediction") if isinstance(tuned_for, Mapping) else None
    if stated is None:
        return None
    try:
        name, data, sign = stated["name"], stated.get("sigma_data"), int(stated.get("sign", 1))
        return prediction_of(name, None if data is None else float(data), sign)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, SigmaTuneError):
            raise
        raise SigmaTuneError(
            "the plan's tuned_for.prediction is no prediction with its name; make the plan again."
        ) from None
