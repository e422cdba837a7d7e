"""Whether the Hugging Face hub answers: its own client retries for half a minute before it says no."""

from __future__ import annotations

import threading
import time

SECONDS = 4.0
"""Longest wait for an answer."""

REMEMBERED = 10.0
"""Seconds for which no answer is remembered, because whoever loads a model asks for several files of a repository."""

UNREACHABLE = "the hub cannot be reached and its cache here does not hold it"

_silent: dict[str, float] = {}
"""When the hub last did not answer, by repository; seconds of the monotonic clock."""


def unreachable(repository: str) -> bool:
    """Asks the hub once for the header of a file of a repository; any answer counts, also that there is no such file.

    Where it is unreachable, its client still reads its cache with ``local_files_only=True``.
    """
    if time.monotonic() - _silent.get(repository, -REMEMBERED) < REMEMBERED:
        return True
    answers: list[bool] = []
    asking = threading.Thread(target=lambda: answers.append(_answers(repository)), daemon=True)
    asking.start()
    asking.join(SECONDS)  # the client's own limit does not hold while a name is looked up
    if answers == [True]:
        return False
    _silent[repository] = time.monotonic()
    return True


def _answers(repository: str) -> bool:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repository, "model_index.json"), timeout=SECONDS)
    except HfHubHTTPError:
        return True
    except Exception:  # noqa: BLE001 - the hub client raises errors of several libraries
        return False
    return True
