"""What others meet first: the package's metadata, the workflow, the templates, and that nothing pickled is ever opened."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest
import yaml

import sigmatune
from sigmatune.workflows.self_test import EXTRAS, PACKAGES
from test_documents import ROOT, tool

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
CITED = {"2407.12173", "2412.10786", "2603.19222", "2402.07211"}
SOURCES = sorted((ROOT / "src").rglob("*.py"))

check_dist = tool("check_dist")


def workflow() -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["project"]["version"] == sigmatune.__version__ == citation["version"]
    assert PROJECT["project"]["license"] == citation["license"]


def test_every_python_that_is_promised_is_tested():
    matrix = workflow()["jobs"]["test"]["strategy"]["matrix"]
    classified = [
        line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", line)
    ]
    assert matrix["python"] == classified
    assert f">={classified[0]}" == PROJECT["project"]["requires-python"]
    entries = {(entry["python"], entry["dependencies"]) for entry in matrix["include"]}
    assert matrix["dependencies"] == ["newest"]
    assert entries == {(classified[0], "tested"), (classified[0], "lowest")}


def test_the_workflow_runs_what_a_contributor_runs():
    jobs = workflow()["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert ".ci/run" in runs
    assert "make dist" in runs
    for run in runs:
        if run.startswith("make ") and run != "make lowest":
            assert re.search(rf"^{run.split()[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), run
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert workflow()["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in jobs.values())


def test_the_four_papers_are_cited_with_all_authors():
    references = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    assert {reference["url"].rpartition("/")[2] for reference in references} == CITED
    for reference in references:
        number = reference["url"].rpartition("/")[2]
        assert reference["identifiers"] == [{"type": "other", "value": f"arXiv:{number}"}]
        assert reference["year"] == 2000 + int(number[:2])
        assert all({"family-names", "given-names"} <= set(author) for author in reference["authors"])
    used = " ".join(source.read_text() for source in SOURCES)
    assert all(f"arxiv.org/abs/{number}" in used for number in CITED)


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_an_issue_form_is_one_that_github_shows(name):
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert set(form) == {"name", "description", "labels", "body"}
    identities = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(set(identities)) == len(identities) >= 3
    assert all("label" in field["attributes"] for field in form["body"] if field["type"] != "markdown")
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_hooks_are_local_and_of_the_pinned_versions():
    assert [repository["repo"] for repository in HOOKS] == ["local"]
    for hook in HOOKS[0]["hooks"]:
        assert hook["language"] == "python"
        [needed] = hook["additional_dependencies"]
        name, _, version = needed.partition("==")
        assert version, hook["id"]
        assert PINS.get(name, version) == version, hook["id"]
    assert "ruff" in PINS


def test_links_of_the_project_pages_lead_to_files_that_exist():
    made = {
        "docs/_build/html",
        "src/sigmatune/schedules/log_power.py",
        "src/sigmatune/solvers/adams2.py",
    }  # by the reader
    for name in ("SECURITY.md", "CONTRIBUTING.md", ".github/pull_request_template.md", "docs/stability.md"):
        text = (ROOT / name).read_text()
        for path in re.findall(r"`((?:docs|tests|tools|\.github|\.ci|src)/[\w./-]*|[A-Z]+\.md)`", text):
            assert (ROOT / path).exists() or path in made, (name, path)
    for url in PROJECT["project"]["urls"].values():
        path = url.partition("/blob/main/")[2]
        assert not path or (ROOT / path).is_file(), url


def test_on_a_package_index_every_link_of_the_readme_is_absolute():
    """An index shows the README without the files beside it."""
    text = (ROOT / "README.md").read_text()
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 30
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    shown = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(shown) == len(targets)
    assert all(address.startswith("https://") for address in shown)
    repository = PROJECT["project"]["urls"]["Source"]
    raw = repository.replace("github.com", "raw.githubusercontent.com") + "/main/"
    for before, after in zip(targets, shown, strict=True):
        for place in (raw, f"{repository}/blob/main/"):
            if after.startswith(place):
                assert (ROOT / after.removeprefix(place).partition("#")[0]).is_file(), before
                assert (place == raw) == before.endswith(".png"), "an image is its file, not the page about it"


def test_the_doctor_and_the_page_on_installing_know_every_extra():
    declared = PROJECT["project"]["optional-dependencies"]
    wanted = set(declared) - {"dev", "docs"}
    for name in wanted:
        packages = {re.split(r"[<>=]", one)[0].lower() for one in declared[name]} - {"psycopg-binary"}
        assert {PACKAGES.get(module, module).replace("_", "-") for module in EXTRAS[name]} == packages, name
    assert set(EXTRAS) == wanted
    page = (ROOT / "docs" / "install.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)) == wanted


def test_the_archive_takes_every_folder_that_tests_and_pages_read():
    target = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]
    taken = {pattern.lstrip("/") for pattern in target["include"]}
    tracked = {name.partition("/")[0] for name in check_dist.tracked(ROOT)}
    if not tracked:
        pytest.skip("this is no clone of the repository, so there is nothing to compare with")
    given = {"pyproject.toml", ".gitignore"}  # which the builder always takes
    assert {name for name in tracked if not re.fullmatch(r"constraints.*\.txt", name)} - given <= taken
    assert {f"/{pattern}" for pattern in check_dist.NOT_IN_ARCHIVE} == {"/benchmarks/models/*/**/*.safetensors"}
    assert target["exclude"] == ["/benchmarks/models/**/*.safetensors"]


def test_weights_of_the_package_stay_small():
    weights = [file for file in (ROOT / "src/sigmatune/models/weights").rglob("*") if file.is_file()]
    assert check_dist.megabytes(weights) < check_dist.LIMITS["weights"]
    assert {file.suffix for file in weights} <= {".safetensors", ".json", ".npz", ".md"}, "no pickles"


def test_a_wheel_that_lacks_or_adds_a_file_is_told():
    whole = check_dist.package_files(ROOT) | {"sigmatune-0.1.0.dist-info/licenses/LICENSE"}
    assert check_dist.problems_of_wheel(whole, ROOT) == []
    assert check_dist.problems_of_wheel(whole - {"sigmatune/py.typed"}, ROOT) == ["the wheel lacks sigmatune/py.typed"]
    assert check_dist.problems_of_wheel(whole | {"tests/exact.py"}, ROOT) == ["the wheel holds tests/exact.py"]
    licence = {name for name in whole if name.endswith("LICENSE")}
    assert check_dist.problems_of_wheel(whole - licence, ROOT) == ["the wheel lacks the licence"]
    assert "sigmatune/models/weights/cifar10/unet/diffusion_pytorch_model.safetensors" in whole


def test_an_archive_that_lacks_or_adds_a_file_is_told():
    tracked = check_dist.tracked(ROOT)
    if not tracked:
        pytest.skip("this is no clone of the repository, so there is nothing to compare with")
    assert not any(name.startswith("benchmarks/models/") and name.endswith(".safetensors") for name in tracked)
    whole = tracked | {"PKG-INFO"}
    assert check_dist.problems_of_archive(whole, ROOT) == []
    assert check_dist.problems_of_archive(whole - {"tests/exact.py"}, ROOT) == ["the archive lacks tests/exact.py"]
    assert check_dist.problems_of_archive(whole | {"secret.txt"}, ROOT) == ["the archive holds secret.txt"]


def unsafe(code: str) -> list[str]:
    """Calls and imports in code that could run what a file holds."""
    said = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            said += [
                f"import {name}"
                for name in names
                if name.split(".")[0] in ("pickle", "dill", "joblib", "cloudpickle", "marshal")
            ]
        if isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            dangerous = (
                name in ("eval", "exec", "yaml.load", "os.system", "yaml.unsafe_load", "yaml.full_load")
                or (name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False")
                or (name == "torch.load" and given.get("weights_only") != "True")
                or given.get("trust_remote_code", "False") != "False"
                or given.get("shell", "False") != "False"
            )
            said += [name] if dangerous else []
    return said


def test_no_code_of_ours_opens_a_pickle_or_runs_what_a_file_holds():
    assert len(SOURCES) > 200
    assert {str(source): said for source in SOURCES if (said := unsafe(source.read_text()))} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "import joblib.numpy_pickle", "np.load(f, allow_pickle=True)",
        "torch.load(f)", "torch.load(f, weights_only=False)", "yaml.load(text, Loader=yaml.Loader)", "eval(text)",
        "load(x, trust_remote_code=True)", "subprocess.run(text, shell=True)",
    ],
)  # fmt: skip
def test_the_search_for_unsafe_code_finds_it(code):
    assert unsafe(code)
    assert (
        unsafe("np.load(f, allow_pickle=False); torch.load(f, weights_only=True); yaml.safe_load(t); network.eval()")
        == []
    )
