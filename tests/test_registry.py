"""One law for all registries: what they say of a name is the same however they are asked."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import sigmatune
from sigmatune.solvers import PHASE_SPACE, POSITION, SOLVERS, Solver, solver
from sigmatune.support.errors import SigmaTuneError
from sigmatune.support.registry import Registry

ROOT = Path(sigmatune.__file__).parent


def registries() -> dict[str, Registry]:
    """All registries of the package, found in its text, so that none is left out."""
    known = {}
    for file in sorted(ROOT.rglob("*.py")):
        names = re.findall(r"^(\w+)(?:: Registry\[.*)? = Registry\(", file.read_text(), flags=re.MULTILINE)
        names += re.findall(r"^(\w+): Registry\[.*\] = Registry\($", file.read_text(), flags=re.MULTILINE)
        module = ".".join(["sigmatune", *file.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
        for name in dict.fromkeys(names):
            known[f"{module}.{name}"] = getattr(importlib.import_module(module), name)
    return known


ALL = registries()
# Names that describe a member and are listed nowhere.
DESCRIBED = ("naive-abo", "reduced-BABO", "naive-abab")


def test_the_law_sees_every_registry():
    text = "\n".join(file.read_text() for file in ROOT.rglob("*.py") if file.name != "registry.py")
    inside = len(re.findall(r"^ +\w+.* = Registry\(", text, flags=re.MULTILINE))
    assert len(ALL) + inside == text.count(" = Registry(") >= 15
    assert inside == 1, "a registry in a function is out of reach of this law"


@pytest.mark.parametrize("where", ALL)
def test_a_registry_does_not_contradict_itself(where):
    registry = ALL[where]
    plain = dict(registry)
    assert list(registry) == list(plain) == list(registry.keys())
    assert len(registry) == len(plain) == len(set(registry))
    others = [*registry.aliases, *DESCRIBED, "no such name", ""]
    for name in [*plain, *others]:
        assert (name in registry) == (name in plain) == (registry.get(name) is not None) == (name in list(registry)), (
            name
        )
        assert registry.get(name) is plain.get(name)
        assert registry.get(name, 7) is plain.get(name, 7)
        try:
            member = registry[name]
        except SigmaTuneError:
            assert name not in registry
            assert not registry.knows(name)
        else:
            assert registry.knows(name)
            assert member is plain[name] if name in plain else name not in registry
    assert all(a is b for a, b in zip(registry.values(), plain.values(), strict=True))
    assert [member is plain[name] for name, member in registry.items()] == [True] * len(plain)


@pytest.mark.parametrize("where", ALL)
@pytest.mark.parametrize("name", [3, None, ("euler",)])
def test_what_is_no_text_is_no_name(where, name):
    registry = ALL[where]
    assert name not in registry
    assert not registry.knows(name)
    with pytest.raises(SigmaTuneError, match="is a text, not"):
        registry[name]


@pytest.mark.parametrize("where", ALL)
def test_every_alias_leads_to_one_member_and_hides_none(where):
    registry = ALL[where]
    for alias, name in registry.aliases.items():
        assert alias not in registry, "an alias hides a member"
        assert registry[alias] is registry[name]
        assert name in registry, "an alias of an alias"


@pytest.mark.parametrize("where", ALL)
def test_members_that_have_a_name_are_listed_under_it(where):
    for name, member in ALL[where].items():
        assert getattr(member, "name", name).partition("(")[0] == name


def test_the_registry_of_solvers_is_flat():
    """Those of phase space stand in it like all others, no other registry holds solvers, and one function reads any name."""
    assert "reduced-oba" in SOLVERS
    assert dict(SOLVERS)["reduced-oba"] is SOLVERS["reduced-oba"] is PHASE_SPACE["reduced-oba"] is solver("reduced-oba")
    assert list(SOLVERS) == [*POSITION, *PHASE_SPACE]
    assert [name for name, member in SOLVERS.items() if member.augmented] == list(PHASE_SPACE)
    assert [where for where, registry in ALL.items() if isinstance(next(iter(registry.values())), Solver)] == [
        "sigmatune.solvers.SOLVERS"
    ]
    for name in DESCRIBED:
        assert name not in SOLVERS
        assert solver(name).name == name.lower()
    assert solver("lambda-ddim") is SOLVERS["conjugate"]
    assert not SOLVERS.knows("reduced-obx")
    assert not SOLVERS.knows("conjugate-bab")
    with pytest.raises(SigmaTuneError, match="a splitting is a string of O, A and B"):
        solver("reduced-obx")
    with pytest.raises(SigmaTuneError, match="did you mean 'sscs'"):
        solver("ssc")
    with pytest.raises(SigmaTuneError, match="'conjugate-bab' were removed"):
        solver("conjugate-bab")
