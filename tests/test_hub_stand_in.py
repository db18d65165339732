"""The stand-in Hub behaves: the real client and the real `hf` work against it, and its faults are what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, JobInfo, Volume
from huggingface_hub.errors import BucketNotFoundError, HfHubHTTPError
from stand_ins.hub import ALICE, BOB, APaper, Chance, Fault, HubServer
from stand_ins.hub.buckets import read_file

pytestmark = pytest.mark.hub

Run = Callable[..., JobInfo]
OUT = Volume(type="bucket", source="alice/lab", mount_path="/autolab/out", path="out/t-1")


@pytest.fixture
def api(hub: HubServer) -> HfApi:
    """Alice's client; she has a private bucket."""
    api = HfApi(endpoint=hub.base, token=ALICE)
    api.create_bucket("alice/lab", private=True)
    return api


@pytest.fixture
def run(api: HfApi) -> Run:
    """`run("sh", "-c", …)` launches a job of Alice's and waits for its end."""

    def run_and_wait(*command: str, wait: bool = True, **settings: object) -> JobInfo:
        job = api.run_job(image="python:3.12", command=list(command), namespace="alice", **settings)
        return api.wait_for_job(job.id, namespace="alice", poll_interval=0.02) if wait else job

    return run_and_wait


def paths(api: HfApi, prefix: str = "") -> list[str]:
    return [file.path for file in api.list_bucket_tree("alice/lab", prefix=prefix, recursive=True)]


def log(hub: HubServer, job: JobInfo) -> str:
    return "\n".join(line["data"] for line in hub.jobs[job.id].log)


# buckets --------------------------------------------------------------------------------------------


def test_files_go_into_a_bucket_and_come_back(api: HfApi, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(os.urandom(300_000))
    added = [(b"text", "a/text"), (b"", "a/empty"), (str(tmp_path / "here"), "ab/large")]
    api.batch_bucket_files("alice/lab", add=added)
    back = {name: tmp_path / name.replace("/", "-") for _, name in added}
    api.download_bucket_files("alice/lab", list(back.items()))
    assert back["a/text"].read_bytes() == b"text" and back["a/empty"].read_bytes() == b""
    assert back["ab/large"].read_bytes() == (tmp_path / "here").read_bytes()
    assert [info.size for info in api.get_bucket_paths_info("alice/lab", ["a/text", "a/none"])] == [4]
    assert (api.bucket_info("alice/lab").total_files, api.bucket_info("alice/lab").size) == (3, 300_004)


def test_a_listing_goes_by_the_letters_of_the_prefix(api: HfApi) -> None:
    api.batch_bucket_files("alice/lab", add=[(b"1", name) for name in ("a/b/c", "a/x", "ab", "b")])
    assert paths(api, "a") == ["a/b/c", "a/x", "ab"]
    assert [item.path for item in api.list_bucket_tree("alice/lab", prefix="a/")] == ["a/b", "a/x"]


def test_files_are_copied_and_deleted_and_what_fails_is_named(api: HfApi) -> None:
    api.batch_bucket_files("alice/lab", add=[(b"1", "a"), (b"2", "b")])
    (info,) = api.get_bucket_paths_info("alice/lab", ["a"])
    copy = [("bucket", "alice/lab", info.xet_hash, "c")]
    with pytest.raises(HfHubHTTPError, match="nowhere: File not found"):
        api.batch_bucket_files("alice/lab", copy=copy, delete=["b", "nowhere"])
    assert paths(api) == ["a", "c"]
    with pytest.raises(HfHubHTTPError, match="Invalid path"):
        api.batch_bucket_files("alice/lab", add=[(b"1", "../a")])


def test_a_bucket_is_its_owners(api: HfApi, hub: HubServer) -> None:
    bob = HfApi(endpoint=hub.base, token=BOB)
    with pytest.raises(BucketNotFoundError):
        api.bucket_info("alice/none")
    with pytest.raises(BucketNotFoundError):
        bob.bucket_info("alice/lab")
    api.create_bucket("alice/open")
    assert bob.bucket_info("alice/open").total_files == 0
    with pytest.raises(HfHubHTTPError, match="403"):
        bob.batch_bucket_files("alice/open", delete=["a"])
    with pytest.raises(HfHubHTTPError, match="403"):
        bob.create_bucket("alice/more")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_bucket("alice/lab")
    assert api.create_bucket("alice/lab", exist_ok=True).bucket_id == "alice/lab"
    api.delete_bucket("alice/open")
    assert [bucket.id for bucket in api.list_buckets(namespace="alice")] == ["alice/lab"]


# jobs -----------------------------------------------------------------------------------------------


def test_a_job_sees_its_volumes_and_its_bucket_has_what_it_wrote(
    api: HfApi, hub: HubServer, run: Run
) -> None:
    api.batch_bucket_files(
        "alice/lab", add=[(b"old", "out/t-1/kept"), (b"2", "out/t-1/gone"), (b"3", "in/a")]
    )
    api.create_repo("alice/data", repo_type="dataset", private=True)
    files = [CommitOperationAdd("set/x.bin", b"\0" * 9), CommitOperationAdd("set/x.txt", b"old")]
    pinned = api.create_commit("alice/data", files, commit_message="1", repo_type="dataset").oid
    files = [CommitOperationAdd("set/x.txt", b"new")]
    api.create_commit("alice/data", files, commit_message="2", repo_type="dataset")
    data = Volume(type="dataset", source="alice/data", mount_path="/d", revision=pinned, path="set")
    given = Volume(type="bucket", source="alice/lab", mount_path="/autolab/in", path="in", read_only=True)
    done = run(
        "sh", "-c", "cat /d/x.txt; ls /d /autolab/in /autolab/out; touch /d/y || touch /autolab/in/y || true;"
        "cd /autolab/out; rm gone; mkdir deep; echo 1 > deep/new; ln -s /etc/passwd link",
        volumes=[data, given, OUT],
    )  # fmt: skip
    assert done.status.stage == "COMPLETED", log(hub, done)
    said = log(hub, done)
    assert "oldx.bin" not in said and said.split()[-20:].count("Read-only") == 2
    assert [word for word in ("old", "x.bin", "x.txt", "a", "gone", "kept") if word not in said] == []
    assert paths(api) == ["in/a", "out/t-1/deep/new", "out/t-1/kept"]
    assert read_file(hub, "alice/lab", "out/t-1/deep/new") == b"1\n"


def test_a_job_with_volumes_can_start_a_sandbox_of_its_own(api: HfApi, hub: HubServer, run: Run) -> None:
    inner = [
        "bwrap",
        "--unshare-all",
        "--unshare-user",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--ro-bind",
        "/",
        "/",
    ]
    code = f"import subprocess; raise SystemExit(subprocess.call({[*inner, '/bin/true']}))"
    done = run("python", "-c", code, volumes=[OUT])
    assert done.status.stage == "COMPLETED", log(hub, done)


@pytest.mark.parametrize("volumes", [[], [OUT]])
def test_a_job_gets_what_it_was_given_and_nothing_of_the_servers(
    api: HfApi, hub: HubServer, run: Run, volumes: list[Volume], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_SERVER", "1")
    code = "import os, sys, json; print(json.dumps([sys.executable, dict(os.environ)]))"
    done = run("python", "-c", code, volumes=volumes, env={"A": "1"}, secrets={"B": "2"}, flavor="h200")
    executable, environment = json.loads(log(hub, done).splitlines()[-1])
    assert os.path.dirname(executable) == os.path.dirname(sys.executable)
    assert environment.items() >= {"A": "1", "B": "2", "JOB_ID": done.id, "ACCELERATOR": "H200"}.items()
    assert not environment.keys() & {"OF_THE_SERVER", "HF_TOKEN", "HF_HOME"}
    assert done.secrets == ["B"] and done.environment == {"A": "1"}


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("exit 3", "Job failed with exit code: 3"),
        ("sleep 60", "Job timeout"),
        ("kill -9 $$", "Job failed with exit code: 137"),
    ],
)
def test_what_a_failed_job_wrote_is_in_the_bucket(api: HfApi, run: Run, end: str, message: str) -> None:
    done = run("sh", "-c", f"echo 1 > /autolab/out/part; {end}", volumes=[OUT], timeout=3)
    assert (done.status.stage, done.status.message) == ("ERROR", message)
    assert paths(api) == ["out/t-1/part"]


def test_a_cancelled_job_ends_with_all_that_it_started(api: HfApi, hub: HubServer, run: Run) -> None:
    job = run("sh", "-c", "echo 1 > /autolab/out/part; echo up; setsid sleep 60", volumes=[OUT], wait=False)
    with hub.jobs[job.id].changed:
        hub.jobs[job.id].changed.wait_for(
            lambda: any(line["data"] == "up" for line in hub.jobs[job.id].log), 20
        )
    api.cancel_job(job_id=job.id, namespace="alice")
    assert api.inspect_job(job_id=job.id, namespace="alice").status.stage == "CANCELED"
    assert paths(api) == ["out/t-1/part"]


def test_files_may_appear_after_the_stage_has_ended(api: HfApi, hub: HubServer, run: Run) -> None:
    hub.flush_seconds = 60  # ends early with the Hub
    assert run("touch", "/autolab/out/late", volumes=[OUT]).status.stage == "COMPLETED"
    assert paths(api) == []
    hub.closed.set()
    next(thread for thread in threading.enumerate() if thread.name.startswith("job-")).join(20)
    assert list(hub.buckets["alice/lab"].files) == ["out/t-1/late"]


@pytest.mark.parametrize(
    ("volume", "status"),
    [
        (Volume(type="bucket", source="alice/none", mount_path="/a"), 404),
        (Volume(type="bucket", source="bob/open", mount_path="/a"), 403),
        (Volume(type="dataset", source="alice/none", mount_path="/a"), 404),
        (Volume(type="bucket", source="alice/lab", mount_path="a/../b"), 400),
    ],
)
def test_a_launch_with_a_volume_that_cannot_be_is_refused(
    api: HfApi, hub: HubServer, run: Run, volume: Volume, status: int
) -> None:
    HfApi(endpoint=hub.base, token=BOB).create_bucket("bob/open")
    with pytest.raises(HfHubHTTPError) as refused:
        run("true", volumes=[volume])
    assert refused.value.response.status_code == status and hub.jobs == {}


def test_jobs_are_listed_page_by_page_newest_first_by_stage_and_label(
    api: HfApi, hub: HubServer, run: Run
) -> None:
    hub.page_size = 2
    ids = [run("sh", "-c", f"exit {n % 2}", labels={"n": str(n % 2), "of": "x"}).id for n in range(5)]

    def listed(**filters: object) -> list[str]:
        return [job.id for job in api.list_jobs(namespace="alice", **filters)]

    assert listed() == ids[::-1]
    assert listed(status=["COMPLETED", "RUNNING"]) == ids[::-2]
    assert listed(labels={"n": "1", "of": "x"}) == [ids[3], ids[1]]
    assert len(hub.asked("cursor=")) == 2 + 1


def test_a_begun_minute_is_paid_and_waiting_is_not(api: HfApi, hub: HubServer, run: Run) -> None:
    hub.stuck = lambda job: job.number == 2
    ended, waiting = run("true", flavor="h200"), run("true", flavor="h200", wait=False)
    api.cancel_job(job_id=waiting.id, namespace="alice")
    assert hub.bill() == {ended.id: 0.083333, waiting.id: 0.0}
    assert api.inspect_job(job_id=waiting.id, namespace="alice").started_at is None
    hub.jobs[ended.id].finished = hub.jobs[ended.id].started + 60.001
    assert hub.bill()[ended.id] == pytest.approx(2 * 0.083333)


def test_nothing_is_launched_without_credit_or_rights(hub: HubServer, run: Run) -> None:
    hub.credit = 0.0001
    run("true", flavor="cpu-basic")
    with pytest.raises(HfHubHTTPError, match="positive credit balance") as refused:
        run("true", flavor="cpu-basic")
    assert refused.value.response.status_code == 402
    for owner, token, status in (("bob", ALICE, 403), ("alice", "wrong", 401)):
        with pytest.raises(HfHubHTTPError) as refused:
            HfApi(endpoint=hub.base, token=token).run_job(image="x", command=["true"], namespace=owner)
        assert refused.value.response.status_code == status
    assert len(hub.jobs) == 1


# faults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "launched"), [({"hang": True}, 1), ({"hang_before": True}, 0)])
def test_a_call_that_hangs_is_carried_out_or_not_and_never_answered(
    hub: HubServer, fault: dict[str, bool], launched: int
) -> None:
    hub.faults.append(Fault("POST /api/jobs", **fault))
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(
            f"{hub.base}/api/jobs/alice",
            json={"command": ["true"], "flavor": "cpu-basic"},
            headers={"Authorization": f"Bearer {ALICE}"},
            timeout=0.3,
        )
    assert len(hub.jobs) == launched


def test_a_chance_strikes_its_share_of_requests_for_ever(hub: HubServer) -> None:
    hub.faults.append(Chance("hardware", share=0.25, status=429, seed=1))
    with httpx2.Client(base_url=hub.base) as client:
        codes = [client.get("/api/jobs/hardware").status_code for _ in range(100)]
        assert client.get("/api/agent-harnesses").status_code == 200
    assert set(codes) == {200, 429} and 10 <= codes.count(429) <= 40


def test_a_stream_that_is_cut_is_not_the_whole_log(api: HfApi, hub: HubServer, run: Run) -> None:
    done = run("sh", "-c", "for i in 1 2 3 4; do echo line $i; done")
    hub.faults.append(Chance("/logs", share=1, cut_after=3))
    with pytest.raises(httpx2.RemoteProtocolError):
        list(api.fetch_job_logs(job_id=done.id, namespace="alice"))


# the command line -----------------------------------------------------------------------------------


def hf(*words: str) -> str:
    environment = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "NO_COLOR": "1"}
    program = Path(sys.executable).parent / "hf"
    done = subprocess.run([program, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hf_jobs_ls_shows_jobs_and_their_stages(run: Run) -> None:
    done = run("true", labels={"campaign": "c-1"})
    (row,) = json.loads(hf("jobs", "ls", "-a", "--namespace", "alice", "--json"))
    assert (row["id"], row["status"], row["labels"]["campaign"]) == (done.id, "COMPLETED", "c-1")


def test_hf_jobs_ps_shows_what_waits_and_runs(hub: HubServer, run: Run) -> None:
    hub.stuck = lambda job: True
    waiting = run("true", wait=False)
    assert [row["id"] for row in json.loads(hf("jobs", "ps", "--json"))] == [waiting.id]


def test_hf_jobs_hardware_shows_prices(hub: HubServer) -> None:
    assert "h200" in (shown := hf("jobs", "hardware")) and "$5.00" in shown


def test_hf_buckets_ls_shows_all_files(api: HfApi) -> None:
    api.batch_bucket_files("alice/lab", add=[(b"1", "a/b"), (b"2", "c")])
    shown = hf("buckets", "ls", "-R", "alice/lab")
    assert [line.split()[-1] for line in shown.splitlines() if line.strip()] == ["a/b", "c"]


def test_hf_download_brings_a_repo(api: HfApi, tmp_path: Path) -> None:
    api.create_repo("alice/results", repo_type="dataset")
    files = [CommitOperationAdd("t.tsv", b"a\tb\n"), CommitOperationAdd("d/x.bin", b"\0\1")]
    api.create_commit("alice/results", files, commit_message="1", repo_type="dataset")
    hf("download", "alice/results", "--repo-type", "dataset", "--local-dir", str(tmp_path / "here"))
    assert (tmp_path / "here/t.tsv").read_bytes() == b"a\tb\n"
    assert (tmp_path / "here/d/x.bin").read_bytes() == b"\0\1"


def test_hf_papers_search_finds_a_paper(hub: HubServer) -> None:
    hub.papers["2407.21783"] = APaper("A Herd", "Llama.")
    assert "2407.21783" in hf("papers", "search", "herd")
