"""Checks the shape of the code in src: names, function and file lengths; of tools and benchmarks file lengths. ``make lint``.

Fails, with file:line, on

- a local name that says nothing of what it holds (``found``, ``own``, ``made``, ``told``), however it is bound;
- a function of more than 45 lines of body, the docstring not counted;
- a function of more than six parameters, unless :data:`WIDE` names it: the command line's alone may have any number;
- a file of more than 320 lines;
- two modules of one base name, except ``base.py``, ``__init__.py`` and a file of ``cli`` that holds the command of its name;
- two public classes of one name.

``python tools/check_names.py [PATH ...]`` checks the given files and folders, by default ``src``, ``tools`` and ``benchmarks``.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BANNED = {"found", "own", "made", "told"}
BODY_LINES, FILE_LINES = 45, 320
PARAMETERS = 6
WIDE = {
    "core.loop.run",  # the one loop, whose arguments are the plan's, the noise's and the caller's
    "evaluation.generation.generate",  # keywords in docs/scale_shards.md
    "evaluation.search_objective.FrechetObjective.__init__",  # docs/tuning.md
    "interop.diffusers_scheduler.SigmaTuneScheduler.__init__",  # a scheduler's configuration is its parameters
    "interop.diffusers_scheduler.SigmaTuneScheduler.step",  # diffusers calls it
    "interop.ksampler.PlainKSampler.sample",  # ComfyUI calls it
    "models.diffusers_networks.load_diffusers",  # options of st.load
    "models.exact.load_exact",  # options of st.load
    "models.function.from_callable",  # options of st.load
    "models.function.from_network_function",  # options of st.load
    "models.load_pipeline.from_pipeline",  # options of st.load
    "plan.sampling.sample",  # st.sample
    "schedules.phase_time.phase_time",  # the family's options
    "schedules.spectral.levels",  # the families' options
    "spectra.mixture_fit.fit",  # docs/spectral.md
    "spectra.sources.open_images",  # docs/images.md
    "tuning.beta_optimum.optimal_beta",  # docs/sigma.md, and the solver's options
    "tuning.gaussian_optimum.optimal",  # six, and the solver's options
    "tuning.tuner.tune",  # st.tune
    "tuning.workbench.Workbench.__init__",  # docs/tuning.md
}
"""The functions of sigmatune that may have more than six parameters, each with its reason: users write them as keywords, or
other programs call them. Elsewhere what belongs together is one value, such as
:class:`sigmatune.evaluation.execution.Execution`. The list only shrinks."""

REPEATABLE = {"__init__", "__main__", "base"}
"""Names of modules that say their role in every package."""

Complaint = tuple[Path, int, str]


def bound(node: ast.AST) -> list[str]:
    """The names that a node binds: assignment, loop, with, walrus, comprehension, parameter, except, import, match."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            return [name]
        case ast.Attribute(attr=name, ctx=ast.Store()):
            return [name]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name) if name:
            return [name]
        case ast.alias(name=name, asname=other):
            return [other or name]
    return []


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return 0 if not body else (function.end_lineno or 0) - body[0].lineno + 1


def too_long(file: Path) -> Iterator[Complaint]:
    """Whether a file has too many lines."""
    lines = file.read_text(encoding="utf-8").count("\n")
    if lines > FILE_LINES:
        yield file, 1, f"{lines} lines, more than {FILE_LINES}; split the file where its meaning splits"


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The parameters of a function, with ``*args`` and ``**options``, without ``self`` and ``cls``."""
    taken = function.args
    named = [arg.arg for arg in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")]) + bool(taken.vararg) + bool(taken.kwarg)


def wide_functions(file: Path) -> Iterator[tuple[str, int, int]]:
    """The functions of more than six parameters: name within the package, line, parameters; overloads do not count."""
    parts = file.with_suffix("").parts
    package = parts[len(parts) - parts[::-1].index("sigmatune") :] if "sigmatune" in parts[:-1] else parts[-1:]
    if package[0] == "cli":
        return
    inner = [name for name in package if name != "__init__"]

    def within(node: ast.AST, names: list[str]) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from within(child, names)
                continue
            named = [*names, child.name]
            if not isinstance(child, ast.ClassDef) and parameters(child) > PARAMETERS and not is_overload(child):
                yield ".".join(named), child.lineno, parameters(child)
            yield from within(child, named)

    yield from within(ast.parse(file.read_text(encoding="utf-8")), inner)


def is_overload(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function is one of the signatures of another that follows."""
    return any(ast.unparse(decorator).rpartition(".")[2] == "overload" for decorator in function.decorator_list)


def too_wide(file: Path) -> Iterator[Complaint]:
    """Functions of a file with too many parameters."""
    for name, line, count in wide_functions(file):
        if name not in WIDE:
            yield (
                file,
                line,
                f"{name} has {count} parameters, more than {PARAMETERS}; make what belongs together one value",
            )


def complaints_of(file: Path) -> Iterator[Complaint]:
    """What one file does wrong."""
    yield from too_long(file)
    yield from too_wide(file)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        line = getattr(node, "lineno", 1)
        for name in BANNED.intersection(bound(node)):
            yield file, line, f"'{name}' does not say what it holds; choose a noun that does"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > BODY_LINES:
            yield file, line, f"{node.name} has {body_lines(node)} lines of body, more than {BODY_LINES}; split it"


def repeated_modules(files: list[Path]) -> Iterator[Complaint]:
    """Modules whose base name is taken; a command may repeat the name of the module that does its work."""
    taken: dict[str, Path] = {}
    for file in files:
        if file.stem in REPEATABLE or _is_command(file):
            continue
        if file.stem in taken:
            yield file, 1, f"{shown(taken[file.stem])} has this base name, too; choose one that says the file's role"
        taken.setdefault(file.stem, file)


def _is_command(file: Path) -> bool:
    functions = (node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef))
    return file.parent.name == "cli" and file.stem in {function.name for function in functions}


def repeated_classes(files: list[Path]) -> Iterator[Complaint]:
    """Public classes of modules whose name is taken."""
    places: dict[str, list[tuple[Path, int]]] = defaultdict(list)
    for file in files:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append((file, node.lineno))
    for name, (first, *others) in places.items():
        for file, line in others:
            yield file, line, f"a public class {name} is also in {shown(first[0])}; rename one of them"


def files_of(paths: list[Path]) -> list[Path]:
    """The Python files at and below the paths."""
    return sorted({file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])})


def check(paths: list[Path]) -> list[Complaint]:
    """Every complaint about the Python files at and below the paths, in order of file and line."""
    files = files_of(paths)
    complaints = [complaint for file in files for complaint in complaints_of(file)]
    return sorted([*complaints, *repeated_modules(files), *repeated_classes(files)])


def shown(file: Path) -> Path:
    """The file's path from the project's root, if it lies there."""
    return file.relative_to(ROOT) if file.is_relative_to(ROOT) else file


if __name__ == "__main__":
    given = [Path(path).resolve() for path in sys.argv[1:]]
    complaints = check(given or [ROOT / "src"])
    for file in [] if given else files_of([ROOT / "tools", ROOT / "benchmarks"]):
        complaints += too_long(file)
    for file, line, sentence in complaints:
        print(f"{shown(file)}:{line}: {sentence}")
    sys.exit(bool(complaints))
