"""A network's prediction type as fields of a configuration, which hold names and numbers only."""

from __future__ import annotations

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
