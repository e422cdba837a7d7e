"""The job scripts of the pages on scale, executed: SLURM's commands are replaced by ones that run all on this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from textwrap import dedent

import pytest

from light import LIGHT, build_light, prepare_light

DOCS = Path(__file__).parent.parent / "docs"
BASH = shutil.which("bash")
pytestmark = [
    pytest.mark.skipif(BASH is None, reason="job scripts are those of bash"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="nodes are loopback addresses"),
]
KNOWN = {"SLURM_JOB_NODELIST", "SLURM_NNODES", "SLURM_ARRAY_TASK_ID"}
"""What SLURM sets for a job of several nodes, and for one of an array."""

SRUN = """#!/bin/bash
nodes=("$FIRST_NODE")
while [[ "$1" == --* ]]; do
  case "$1" in
    --nodelist=*) nodes=("${1#*=}") ;;
    --exclude=*) [ "${1#*=}" = "$FIRST_NODE" ] && nodes=("$SECOND_NODE") ;;
    --nodes=1 | --overlap) ;;
    *) echo "srun: unrecognized option '$1'" >&2; exit 1 ;;
  esac
  shift
done
NODE="${nodes[0]}" exec "$@"
"""
SCONTROL = """#!/bin/bash
[ "$*" = "show hostnames $SLURM_JOB_NODELIST" ] || exit 1
printf '%s\\n' "$FIRST_NODE" "$SECOND_NODE"
"""
RAY = """#!{python}
import os, sys
arguments = sys.argv[1:]
if arguments[0] == "start":
    arguments += ["--node-ip-address", os.environ["NODE"], "--num-cpus=1", "--object-store-memory=100000000"]
    with open(os.environ["STARTED"], "a") as file:
        print(os.getpid(), file=file)
os.execv(sys.executable, [sys.executable, "-m", "ray.scripts.scripts", *arguments])
"""
SIGMATUNE = '#!/bin/bash\nexec {python} -m sigmatune "$@"\n'


def scripts(page):
    """The job scripts of a page, fenced or indented."""
    text = (DOCS / page).read_text()
    indented = [dedent(block) for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)]
    fenced = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for block in [*indented, *fenced] if block.startswith("#!/bin/bash\n")]


WITH_RAY, (ARRAY, MERGE) = scripts("scale.md"), scripts("scale_shards.md")


@pytest.mark.parametrize("script", [*WITH_RAY, ARRAY, MERGE])
def test_a_job_script_is_bash_whose_variables_are_set(script, tmp_path):
    file = tmp_path / "job"
    file.write_text(script)
    subprocess.run([BASH, "-n", file], check=True)
    lines = script.splitlines()
    options = [line for line in lines if line.startswith("#SBATCH")]
    assert options
    assert lines[1 : 1 + len(options)] == options, "SLURM reads no option after the first command"
    assert all(re.fullmatch(r"#SBATCH( --[a-z-]+(=\S+)?)+", line) for line in options)
    used = set(re.findall(r"\$\(*\{?([A-Za-z_]+)", re.sub(r"\$\([a-z]", "", script)))
    assert used - KNOWN <= set(re.findall(r"^([a-z]+)=", script, re.MULTILINE))


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Runs a script as SLURM would, with some variables; data and a plan lie in the folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGMATUNE_CACHE", "")  # so that it is put back
    build_light(tmp_path)
    prepare_light(tmp_path, "euler", plan=3)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "ray": RAY, "sigmatune": SIGMATUNE}.items():
        (tools / name).write_text(text.replace("{python}", sys.executable))
        (tools / name).chmod(0o755)
    base = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "RAY_"))} | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # not 15, which waits for all other test processes
        "PYTHONPATH": str(DOCS.parent / "src"), "FIRST_NODE": "127.0.0.8", "SECOND_NODE": "127.0.0.9",
    }  # fmt: skip

    def call(script, **variables):
        (tmp_path / "job").write_text(script)
        said = tmp_path / "said"
        with said.open("w") as file:  # no pipe, for what runs in the background holds it
            done = subprocess.run(
                [BASH, tmp_path / "job"], env=base | variables, stdout=file, stderr=file, timeout=400, check=False
            )
        assert done.returncode == 0, said.read_text()[-3000:]
        return said.read_text()

    return call


def small(script, n):
    """The same job with a light model, few images and cheap figures."""
    changed = re.sub(r"evaluate (my-model|MODEL) ", f"evaluate {LIGHT} --device cpu ", script)
    changed = changed.replace("-n 50000", f"-n {n} --metrics fd --extractor pixels --spaces pixels-pca8")
    assert changed.count(LIGHT) == changed.count(f"-n {n} ") == 1
    return changed


def without_date(file):
    return [line for line in file.read_text().splitlines() if '"date"' not in line]


@pytest.mark.slow
def test_an_array_of_shards_and_the_job_that_joins_them(job, tmp_path, run):
    array, merge = (small(script, 520).replace("64", "2") for script in (ARRAY, MERGE))
    assert "--array=1-2" in array
    for task in (2, 1):
        job(array, SLURM_ARRAY_TASK_ID=str(task))
    assert not (tmp_path / "evaluation.json").exists()
    job(merge)
    command = next(line for line in merge.splitlines() if line.startswith("srun")).split()[2:]
    assert run(*command[: command.index("--merge")], "--out", "whole.json")[0] == 0
    assert without_date(tmp_path / "evaluation.json") == without_date(tmp_path / "whole.json")


@pytest.mark.slow
def test_a_job_that_starts_a_cluster_of_ray(job, tmp_path, run):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'sigmatune[ray]'")
    (script,) = WITH_RAY
    with socket.socket() as free:
        free.bind(("127.0.0.8", 0))
        port = free.getsockname()[1]
    sockets, started = tempfile.mkdtemp(prefix="st-", dir="/tmp"), tmp_path / "started"
    try:
        said = job(
            small(script, 96).replace("6379", str(port)), SLURM_JOB_NODELIST="node[1-2]", SLURM_NNODES="2",
            STARTED=str(started), RAY_TMPDIR=sockets, RAY_AUTH_TOKEN="0123456789abcdef" * 4,
        )  # fmt: skip
    finally:
        nodes = [int(line) for line in started.read_text().split()] if started.exists() else []
        ended(nodes)
        shutil.rmtree(sockets, ignore_errors=True)
    assert len(nodes) == 2
    assert "evaluation.json" in said
    command = script[script.index("evaluate") : script.index(" --engine")].replace("my-model", LIGHT).split()
    command[command.index("50000")] = "96"
    assert (
        run(*command, "--device", "cpu", "--metrics", "fd", "--extractor", "pixels", "--spaces", "pixels-pca8",
            "--out", "local.json")[0] == 0
    )  # fmt: skip
    assert without_date(tmp_path / "evaluation.json") == without_date(tmp_path / "local.json")


def ended(processes):
    """Ends nodes of Ray that ``ray start --block`` holds, the last one first, as SLURM does when a job is over."""
    for process in reversed(processes):
        with suppress(OSError):  # it has ended
            if b"ray.scripts" in Path(f"/proc/{process}/cmdline").read_bytes():
                os.kill(process, signal.SIGTERM)
    for process in processes:
        for _ in range(300):
            if not Path(f"/proc/{process}/stat").exists() or " Z " in Path(f"/proc/{process}/stat").read_text():
                break
            time.sleep(0.1)
