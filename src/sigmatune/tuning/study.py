"""Optuna's studies: where they are kept, and what their databases refuse, in one sentence."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sigmatune.support.errors import SigmaTuneError, reason

PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds between tries to make a study."""

COLLISIONS = frozenset({"IntegrityError", "ProgrammingError", "DuplicatedStudyError"})
"""Errors of SQLAlchemy and Optuna when several processes make the same tables or the same study."""


def optuna_module() -> Any:
    """Imports Optuna.

    Raises:
        SigmaTuneError: if it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise SigmaTuneError("this search needs Optuna; install it by: pip install 'sigmatune[search]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def check_study(url: str | None) -> None:
    """Refuses the address of a database that cannot be one, before any work.

    Raises:
        SigmaTuneError: if it is no address, or its driver is not installed.
    """
    if url is not None:
        optuna_module()
        from sqlalchemy.engine import make_url

        _asked(url, lambda: make_url(url).get_dialect())


def opened(name: str, url: str | None) -> Any:
    """Opens a study, new or old; machines that start together on an empty database make one.

    Args:
        name: Its name in the database.
        url: The database's address; None for one in memory.

    Raises:
        SigmaTuneError: if it cannot be opened.
    """
    settings = {"study_name": name, "direction": "minimize", "load_if_exists": True}
    return _asked(url, lambda: _patiently(lambda: optuna_module().create_study(storage=url, **settings)))


def _patiently(make: Callable[[], Any]) -> Any:
    """Tries again where another process made the same tables at the same moment, for the database then refuses one of them."""
    for pause in PAUSES:
        try:
            return make()
        except Exception as error:
            if {type(one).__name__ for one in (error, error.__cause__)}.isdisjoint(COLLISIONS):
                raise
            time.sleep(pause)
    return make()


def _asked(url: str | None, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 - whatever the database's driver raises
        raise SigmaTuneError(f"cannot open the study at {_shown(url)}: {_of_driver(error)}.") from None


@contextmanager
def database(url: str | None) -> Iterator[None]:
    """A database may fail at any time: its disk fills, another process locks it, its server stops.

    Raises:
        SigmaTuneError: in the place of errors of Optuna and the database's driver; all values so far are in the store.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("optuna", "sqlalchemy"):
            raise
        raise SigmaTuneError(f"cannot write to the study at {_shown(url)}: {_of_driver(error)}.") from None


def _shown(url: str | None) -> str:
    """The address of a study without its password, because messages end up in logs."""
    return re.sub(r"://([^:/@]*):[^@]*@", r"://\1:***@", str(url))


def _of_driver(error: BaseException) -> str:
    """What the driver says, for Optuna itself says only that something failed."""
    return reason(error.__cause__ or error)
