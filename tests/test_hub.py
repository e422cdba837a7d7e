"""Plans on the hub: what is sent, and what comes back, against the hub client's own local interfaces."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from unittest import mock

import huggingface_hub
import pytest

import sigmatune as st
from sigmatune import SigmaTuneError
from sigmatune.noise import vp
from sigmatune.support import hub_access
from sigmatune.support.hub_access import unreachable

EVIDENCE = {
    "verdict": "gain",
    "baseline": "karras | <b>rho</b>=7",
    "error_ratio": {"estimate": 0.5, "low": 0.4, "high": 0.6},
}


@pytest.fixture
def plan():
    path = vp()
    made = st.compile_plan(st.build_schedule("karras", 4, path), "dpmpp2m")
    return made.with_notes(path=path.spec(), evidence=EVIDENCE, tuned_for={"calls": 4})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder in place of the hub: the client's HfApi and its cache, without a network."""
    sent = tmp_path / "hub"

    def create_repo(self, repo_id, *, private=False, exist_ok=False, **_):
        (sent / repo_id).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(self, *, repo_id, folder_path, commit_message, **_):
        assert commit_message
        shutil.copytree(folder_path, sent / repo_id, dirs_exist_ok=True)
        return f"https://example.org/{repo_id}/commit/1"

    def hf_hub_download(repo_id, filename, **_):
        if not (sent / repo_id / filename).is_file():
            raise huggingface_hub.errors.EntryNotFoundError(f"{repo_id} has no {filename}")
        return str(sent / repo_id / filename)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return sent


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """A hub that is asked at most once and for nothing but whether it answers, and an empty cache."""
    asked = []

    def unreachable(url, timeout):
        asked.append(url)
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(hub_access, "_silent", {})
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return asked


@pytest.mark.parametrize("load", [st.load, st.load_plan])
def test_without_a_network_the_hub_is_asked_without_retries(no_network, load):
    with pytest.raises(SigmaTuneError, match=r"^there is no \w+ owner/name, and the hub cannot be reached"):
        load("owner/name")
    assert len(no_network) == 1


def test_without_a_network_the_hub_s_cache_is_read(plan, no_network, monkeypatch, tmp_path):
    plan.save(tmp_path / "kept.json")

    def cached(repo_id, filename, *, revision, local_files_only):
        assert local_files_only
        return str(tmp_path / "kept.json")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", cached)
    assert st.load_plan("owner/name").coefficients.tobytes() == plan.coefficients.tobytes()


def test_a_hub_that_never_answers_is_given_up_in_seconds(no_network, monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(hub_access, "SECONDS", 0.3)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: never.wait(20))
    began = time.monotonic()
    with pytest.raises(SigmaTuneError, match="the hub cannot be reached"):
        st.load("owner/name")
    assert time.monotonic() - began < 5
    never.set()


def test_a_hub_that_knows_no_such_file_does_answer(monkeypatch):
    def missing(url, timeout):
        raise huggingface_hub.errors.HfHubHTTPError("none", response=mock.Mock())

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", missing)
    assert not unreachable("owner/name")


def test_a_plan_comes_back_bit_for_bit(plan, hub):
    assert plan.push_to_hub("user/repo", model="owner/model").endswith("/commit/1")
    again = st.load_plan("user/repo")
    assert again.coefficients.tobytes() == plan.coefficients.tobytes()
    assert again.evidence == plan.evidence
    assert sorted(file.name for file in (hub / "user/repo").iterdir()) == ["README.md", "levels.svg", "plan.json"]
    assert (hub / "user/repo/levels.svg").read_text().startswith("<svg")


def test_the_card_shows_the_evidence_and_is_valid_for_the_hub(plan):
    text = plan.repository_files("user/repo", "owner/model")["README.md"]
    loaded = huggingface_hub.ModelCard(text)
    assert loaded.data.base_model == "owner/model"
    assert loaded.data.library_name == "sigmatune"
    assert "levels.svg" in text
    assert 'st.load_plan("user/repo")' in text
    assert "| verdict | gain |" in text
    assert "<b>" not in text.replace("\\<b\\>", ""), "text of a file stays text"
    assert "None: this plan was not tuned" in plan.with_notes(evidence=None).repository_files("user/repo")["README.md"]


def test_what_the_hub_does_not_have_is_one_sentence(hub, monkeypatch):
    with pytest.raises(SigmaTuneError, match=r"provides no plan\.json"):
        st.load_plan("user/nothing")
    plan = st.compile_plan(st.Schedule([1.0, 0.0]))
    with pytest.raises(SigmaTuneError, match="owner/name"):
        plan.push_to_hub("nothing")

    def refused(*_, **__):
        raise OSError("401 Unauthorized")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refused)
    with pytest.raises(SigmaTuneError, match="is a token set"):
        plan.push_to_hub("user/repo")


def test_a_file_of_that_name_comes_first(plan, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("user").mkdir()
    plan.save("user/repo")
    assert st.load_plan("user/repo").calls == 4


def test_push_on_the_command_line(run, plan, hub, tmp_path):
    plan.save(tmp_path / "plan.json")
    code, out, err = run("push", "plan.json", "user/repo", "--dry-run", "folder")
    assert code == 0, err
    assert "nothing was sent" in out
    assert (tmp_path / "folder" / "README.md").is_file()
    assert not hub.exists()
    code, out, err = run("push", "plan.json", "user/repo")
    assert code == 0, err
    assert (hub / "user/repo/plan.json").is_file()
    code, _, err = run("push", "plan.json", "nothing")
    assert code == 2
    assert "owner/name" in err
