"""What the documentation of 0.1 showed under another name still works, and says what to write instead."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from sigmatune.support.moved import MODULES, REMOVED


@pytest.mark.parametrize("old", MODULES)
def test_a_moved_module_is_the_module(old):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{MODULES[old]}; the old name goes in {REMOVED}"):
        module = import_module(old)
    assert module is import_module(MODULES[old])
    assert module.__name__ == module.__spec__.name == MODULES[old]
    sys.modules.pop(old, None)


def test_importing_it_twice_keeps_one_registry_of_classes():
    sys.modules.pop("sigmatune.schedule", None)
    with pytest.warns(DeprecationWarning, match="sigmatune.core.schedule"):
        from sigmatune.schedule import Schedule
    from sigmatune.core.schedule import Schedule as now

    assert Schedule is now
    sys.modules.pop("sigmatune.schedule", None)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("sigmatune.tuning", "Settings", "TuningSettings"),
        ("sigmatune.training.weights", "Data", "DataFacts"),
        ("sigmatune.training.recipe", "Process", "ProcessSection"),
    ],
)
def test_a_renamed_class_is_the_class(module, old, new):
    home = import_module(module)
    with pytest.warns(DeprecationWarning, match=f"{module}.{old} is now {module}.{new}"):
        found = getattr(home, old)
    assert found is getattr(home, new)
    with pytest.raises(AttributeError, match="has no attribute 'Sittings'"):
        home.Sittings  # noqa: B018
