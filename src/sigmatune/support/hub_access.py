"""Whether the Hugging Face hub answers: its own client retries for half a minute before it says no."""

from __future__ import annotations

SECONDS = 10.0
"""Longest wait for an answer."""

UNREACHABLE = "the hub cannot be reached and its cache here does not hold it"


def unreachable(repository: str) -> bool:
    """Asks the hub once for the header of a file of a repository; any answer counts, also that there is no such file.

    Where it is unreachable, its client still reads its cache with ``local_files_only=True``.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repository, "model_index.json"), timeout=SECONDS)
    except HfHubHTTPError:
        return False
    except Exception:  # noqa: BLE001 - the hub client raises errors of several libraries
        return True
    return False
