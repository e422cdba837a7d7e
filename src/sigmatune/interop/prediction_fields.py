"""A network's prediction type as fields of a configuration, which hold names and numbers only."""

from __future__ import annotations

from sigmatune.models.predictions import Prediction, edm, predictions


def fields_of(prediction: Prediction) -> tuple[str, float | None, int]:
    """A prediction for JSON: (name, sigma_data, sign); sigma_data is None for all but EDM's."""
    if not prediction.name.startswith("edm("):
        return prediction.name, None, 1
    data, sign = (field.partition("=")[2] for field in prediction.name[4:-1].split(", "))
    return "edm", float(data), int(sign)


def prediction_of(kind: str, sigma_data: float | None, sign: int) -> Prediction:
    """The prediction of such fields.

    Raises:
        SigmaTuneError: for an unknown name.
    """
    return predictions[kind] if kind != "edm" else edm(0.5 if sigma_data is None else sigma_data, sign=sign)
