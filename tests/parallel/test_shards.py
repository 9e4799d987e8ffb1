"""Shards: several workers, some of them killed, make the same files as one process."""

from __future__ import annotations

import contextlib
import filecmp
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc import confs
from disk_hloc.errors import Busy, DiskHlocError, UnreadableImages
from disk_hloc.io.hloc.pairs import write_pairs
from disk_hloc.io.inputs import inputs_path
from disk_hloc.io.store import Plan, journal_path, plan, writing
from disk_hloc.io.store.journal import Dataset, Journal
from disk_hloc.parallel import shard_files, shards, tasks
from disk_hloc.parallel import workers as cluster
from disk_hloc.stages import extract, match
from disk_hloc.stages.work import Task, Work
from support.errors import one_line_error

CONF = {
    "output": "feats",
    "model": {"name": "disk", "max_keypoints": 100},
    "preprocessing": {"resize_max": 320},
}
MATCHER = confs.matchers()["disk"]
NUM_PHOTOS = 20


@pytest.fixture(scope="module")
def photos(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in folders, some of them the same, with names that have a space."""
    folder = tmp_path_factory.mktemp("photos")
    sources = sorted((scene / "images").iterdir())
    for i in range(NUM_PHOTOS):
        path = folder / f"{i % 3}" / f"photo {i:02d}.jpg"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(sources[i % len(sources)], path)
    return folder


@pytest.fixture(scope="module")
def features(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features file of one process."""
    return extract.main(CONF, photos, tmp_path_factory.mktemp("local") / "features.h5")


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    """Two workers on this machine."""
    pytest.importorskip("distributed")
    with cluster._local(2, torch.device("cpu")) as started:
        yield started


def kill_one(workers: Any) -> None:
    """SIGKILL to a random worker; its nanny starts another."""
    nannies = [nanny for nanny in workers.workers.values() if nanny.pid]
    if nannies:
        with contextlib.suppress(ProcessLookupError):
            os.kill(random.choice(nannies).pid, signal.SIGKILL)


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """The finished shards, each with what shows whether it was written again."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.h5")
    }


def test_features_are_those_of_one_process(
    photos: Path, features: Path, tmp_path: Path, workers: Any
) -> None:
    path = shards.extract(
        CONF, photos, tmp_path / "new" / "features.h5", dask=workers.scheduler_address
    )
    assert filecmp.cmp(path, features, shallow=False)
    assert set(path.parent.iterdir()) == {path, inputs_path(path)}
    before = path.stat()
    # Everything is done, so no worker is needed.
    shards.extract(CONF, photos, path, dask="tcp://127.0.0.1:1")
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_matches_are_those_of_one_process(
    scene: Path, tmp_path: Path, workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = extract.main(CONF, scene / "images", tmp_path / "features.h5")
    names = sorted(path.name for path in (scene / "images").iterdir())
    # An absolute path, whatever the worker's folder is.
    monkeypatch.chdir(tmp_path)
    pairs = Path("pairs.txt")
    write_pairs(pairs, combinations(names, 2))
    local = match.main(MATCHER, pairs, features, tmp_path / "local.h5")
    path = shards.match(
        MATCHER, pairs, Path("features.h5"), Path("matches.h5"), dask=workers.scheduler_address
    )
    assert filecmp.cmp(path, local, shallow=False)
    write_pairs(pairs, [*combinations(names, 2), (names[0], "missing.jpg")])
    with pytest.raises(DiskHlocError) as error:
        shards.match(MATCHER, pairs, features, path, dask=workers.scheduler_address)
    assert one_line_error(error, "missing.jpg", "pairs.txt")


def test_workers_may_be_killed_at_any_moment(
    photos: Path, features: Path, tmp_path: Path, workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    kills = 0

    def kill() -> None:
        nonlocal kills
        while kills < 3 and not done.wait(random.uniform(0.2, 1.2)):
            if (tmp_path / "features.h5.shards").exists():
                kill_one(workers)
                kills += 1

    monkeypatch.setattr(tasks, "BUSY_SECONDS", 0.2)
    thread = threading.Thread(target=kill)
    thread.start()
    try:
        path = shards.extract(
            CONF, photos, tmp_path / "features.h5", dask=workers.scheduler_address
        )
    finally:
        done.set()
        thread.join()
    assert kills > 0
    assert filecmp.cmp(path, features, shallow=False)


def test_a_killed_run_is_resumed_and_no_finished_shard_is_done_again(
    photos: Path, features: Path, tmp_path: Path, workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "features.h5"
    code = (
        "import sys; from pathlib import Path; from disk_hloc import shards;"
        f"shards.extract({CONF!r}, Path(sys.argv[1]), Path(sys.argv[2]), dask=sys.argv[3])"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code, str(photos), str(path), workers.scheduler_address],
        stderr=subprocess.DEVNULL,
    )
    folder = tmp_path / "features.h5.shards"
    while len(finished(folder)) < 3:
        assert driver.poll() is None
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    before = finished(folder)
    assert not path.exists()
    joined = {}
    computed = set()
    join, compute = shards.join, tasks.compute

    def note_shards(client: Any, work: Any, listed: list[Any], *args: Any) -> Any:
        computed.update(shard.file.name for shard in listed)
        return compute(client, work, listed, *args)

    def note(*args: Any, **kwargs: Any) -> Path:
        joined.update(finished(folder))
        return join(*args, **kwargs)

    monkeypatch.setattr(shards, "join", note)
    monkeypatch.setattr(tasks, "compute", note_shards)
    monkeypatch.setattr(tasks, "BUSY_SECONDS", 0.2)
    shards.extract(CONF, photos, path, dask=workers.scheduler_address)
    assert len(before) >= 3
    assert before.items() <= joined.items()
    assert computed
    assert not computed & set(before)
    assert filecmp.cmp(path, features, shallow=False)


def test_unreadable_images_of_all_shards_are_reported_as_by_one_process(
    photos: Path, tmp_path: Path, workers: Any
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    whole = next(photos.rglob("*.jpg")).read_bytes()
    for i in range(6):
        (folder / f"{i}.jpg").write_bytes(whole[: len(whole) // 2] if i % 3 == 0 else whole)
    with pytest.raises(UnreadableImages) as local:
        extract.main(CONF, folder, tmp_path / "local" / "features.h5")
    path = tmp_path / "features.h5"
    for _ in range(2):
        with pytest.raises(UnreadableImages) as caught:
            shards.extract(CONF, folder, path, dask=workers.scheduler_address)
        assert list(caught.value.reasons.items()) == list(local.value.reasons.items())
        assert filecmp.cmp(path, tmp_path / "local" / "features.h5", shallow=False)
    for image in folder.iterdir():
        image.write_bytes(b"")
    with pytest.raises(DiskHlocError, match="no image of"):
        shards.extract(CONF, folder, tmp_path / "none.h5", dask=workers.scheduler_address)


def test_the_error_of_a_task_reaches_the_user(photos: Path, tmp_path: Path, workers: Any) -> None:
    bad = {**CONF, "model": {"name": "disk", "nms_window_size": 4}}
    with pytest.raises(DiskHlocError) as local:
        extract.main(bad, photos, tmp_path / "local.h5")
    with pytest.raises(DiskHlocError) as error:
        shards.extract(bad, photos, tmp_path / "features.h5", dask=workers.scheduler_address)
    assert str(error.value) == str(local.value)
    assert one_line_error(error, "nms_window_size: 4")
    # Nothing was done, so nothing is left.
    assert list(tmp_path.iterdir()) == []


def test_overwrite_starts_over_also_when_it_is_resumed(
    photos: Path, features: Path, tmp_path: Path, workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "features.h5"
    other = {**CONF, "model": {"name": "disk", "max_keypoints": 10}}
    with writing(path, extract.made_with(other)) as store:
        store.add("old.jpg", [Dataset("old.jpg/keypoints", np.zeros((1, 2)))])
    with pytest.raises(DiskHlocError, match=r"made with another conf.*--overwrite"):
        shards.extract(CONF, photos, path, dask=workers.scheduler_address)

    def stop(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shards, "join", stop)
        with pytest.raises(KeyboardInterrupt):
            shards.extract(CONF, photos, path, dask=workers.scheduler_address, overwrite=True)
    with pytest.raises(DiskHlocError, match=r"unfinished work of another conf.*--overwrite"):
        shards.extract(other, photos, path, dask=workers.scheduler_address)
    # Everything is finished, so no worker is needed.
    shards.extract(CONF, photos, path, dask="tcp://127.0.0.1:1")
    assert filecmp.cmp(path, features, shallow=False)


def test_a_shard_that_a_lost_worker_still_writes_is_waited_for(
    photos: Path, features: Path, tmp_path: Path, workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "features.h5"
    folder = tmp_path / "features.h5.shards"
    folder.mkdir()
    name = extract.chosen_images(photos)[0]
    (folder / "former.txt").write_text(f"{name}\n")
    held = Journal(journal_path(folder / "former.h5"))
    busy: list[Busy] = []
    result = tasks._result

    def note(*args: Any) -> Any:
        try:
            return result(*args)
        except Busy as error:
            if not busy:
                held.close()
            busy.append(error)
            raise

    monkeypatch.setattr(tasks, "_result", note)
    monkeypatch.setattr(tasks, "BUSY_SECONDS", 0.2)
    shards.extract(CONF, photos, path, dask=workers.scheduler_address)
    assert busy
    assert filecmp.cmp(path, features, shallow=False)


def test_two_runs_on_one_file_at_once(photos: Path, tmp_path: Path, workers: Any) -> None:
    path = tmp_path / "features.h5"
    with (
        writing(path, extract.made_with(CONF)),
        pytest.raises(Busy, match="another process is writing"),
    ):
        shards.extract(CONF, photos, path, dask=workers.scheduler_address)


def some_work(path: Path, compute: Callable[..., Any] = print) -> Work:
    """Return the work on a file of images that have keypoints."""

    def missing(names: Sequence[str], found: Mapping[str, Any], path: Path) -> Plan:
        return plan(
            path, names, found, lambda *_: None, kinds=("photos",), unit="image", verb="extract"
        )

    task = Task({"a": 1}, ("keypoints",), "image", missing, str, compute)
    return Work(path, [], task, print, 4, lambda names, _: list(names))


def die(*_: Any) -> None:
    """A computation that its worker does not survive."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_shard_that_kills_every_worker_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "MAX_DEATHS", 0)
    work = some_work(tmp_path / "x.h5", die)
    with cluster.connected("local:1") as client, pytest.raises(DiskHlocError) as error:
        tasks.compute(client, work, shard_files.cut(work, ["a", "b"], 1)[:1], "cpu", {})
    assert one_line_error(error, "several workers died", shard_files.folder(work), "memory")


def test_tasks_on_cuda_take_a_gpu_each(
    workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client, Worker

    with Client(workers.scheduler_address, set_as_default=False) as client:
        assert cluster.agreed_device(client, "cpu") == ("cpu", {})
        with pytest.raises(DiskHlocError) as error:
            cluster.agreed_device(client, "cuda")
        assert one_line_error(error, "no worker offers a GPU", "--resources GPU=1")

        def offer(dask_worker: Worker) -> None:
            dask_worker.state.available_resources = {"GPU": 1}

        # As `dask worker --resources GPU=1` says it.
        address = next(iter(client.nthreads()))
        client.run_on_scheduler(
            lambda dask_scheduler: dask_scheduler.add_resources(
                worker=address, resources={"GPU": 1}
            )
        )
        client.run(offer, workers=[address])
        assert cluster.agreed_device(client, "cuda:0") == ("cuda:0", {"GPU": 1})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert cluster._visible_gpus() == ["5", "7"]
    with pytest.raises(DiskHlocError) as error:
        cluster._local(3, torch.device("cuda"))
    assert one_line_error(error, "has 2 GPUs", "local:2")
    with pytest.raises(DiskHlocError) as error:
        cluster._local(1, torch.device("cuda:1"))
    assert one_line_error(error, "cuda:1", "CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("dask", "message"),
    [
        ("somewhere", "local:N"),
        ("local:0", "how many"),
        ("local:x", "how many"),
        ("tcp://127.0.0.1:1", "no Dask scheduler answers at tcp://127.0.0.1:1"),
        ("tcp://nobody", "no Dask scheduler answers at tcp://nobody"),
        ("missing.yaml", "cannot read the cluster missing.yaml"),
        ("empty.yaml", "has no cluster, jobs: see configs/slurm.yaml"),
        ("jobs.yaml", "jobs is 0"),
        ("unknown.yaml", "there is no cluster class NoCluster"),
        ("refused.yaml", "SLURMCluster cannot be started"),
    ],
)
def test_workers_that_cannot_be_reached(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dask: str, message: str
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    Path("empty.yaml").write_text("")
    Path("jobs.yaml").write_text("{cluster: SLURMCluster, jobs: 0}")
    Path("unknown.yaml").write_text("{cluster: NoCluster, jobs: 1}")
    Path("refused.yaml").write_text("{cluster: SLURMCluster, jobs: 1, no_such_option: 1}")
    monkeypatch.setattr(cluster, "WAIT_SECONDS", 1)
    with pytest.raises(DiskHlocError) as error:
        shards.extract(CONF, photos, tmp_path / "features.h5", dask=dask)
    assert one_line_error(error, message)


def test_ctrl_c_is_as_before_once_batch_jobs_are_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "jobs.yaml").write_text("{cluster: NoCluster, jobs: 1}")
    code = """if True:
        import signal
        from disk_hloc.errors import DiskHlocError
        from disk_hloc.parallel import workers
        try:
            with workers.connected("jobs.yaml"):
                pass
        except DiskHlocError as error:
            assert "no cluster class" in str(error)
        import dask_jobqueue.runner  # which installs a handler, if it was not imported before
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    """
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_a_scheduler_without_workers(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "WAIT_SECONDS", 1)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as started,
        pytest.raises(DiskHlocError) as error,
    ):
        shards.extract(CONF, photos, tmp_path / "f.h5", dask=started.scheduler_address)
    assert one_line_error(error, "no worker of tcp://", "within 1 seconds")


def test_without_dask_the_error_names_the_extra(photos: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['distributed'] = None;"
        "from disk_hloc.cli import main;"
        f"sys.argv[1:] = ['extract', {str(photos)!r}, 'f.h5', '--dask', 'local:2']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert "pip install 'disk_hloc[dask]'" in lines[0]


def test_a_worker_that_does_not_see_the_files_says_so(tmp_path: Path) -> None:
    work = some_work(tmp_path / "x.h5")
    with pytest.raises(DiskHlocError) as error:
        tasks.make_shard(work.task, tmp_path / "elsewhere.txt", tmp_path, "cpu")
    assert one_line_error(error, "does not see", tmp_path / "elsewhere.txt")


@given(num_images=st.integers(2, 150), size=st.integers(1, 200))
@settings(max_examples=30, deadline=None)
def test_blocks_of_pairs_touch_few_images(num_images: int, size: int) -> None:
    lines = [f"{a:03d} {b:03d}" for a, b in combinations(range(num_images), 2)]
    ordered = match.in_blocks(lines, size)
    assert sorted(ordered) == sorted(lines)
    for start in range(0, len(ordered), size):
        touched = {name for line in ordered[start : start + size] for name in line.split()}
        # A square of this many pairs has 2 sides; a block reaches over a few squares.
        assert len(touched) <= 5 * size**0.5 + 3


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_what_is_not_finished_is_cut_and_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    names = [f"{i:02d}" for i in range(12)]
    wanted = st.lists(st.sampled_from(names), unique=True, min_size=1).map(sorted)
    work = some_work(tmp_path_factory.mktemp("work") / "x.h5")
    shard_files.folder(work).mkdir()
    made: set[str] = set()
    for _ in range(data.draw(st.integers(1, 3))):
        asked = data.draw(wanted)
        done, unfinished, uncut = shard_files.former(work, asked)
        todo = unfinished + shard_files.cut(work, uncut, data.draw(st.integers(1, 2)))
        kept = {name for shard in done for name in shard_files.entries_of(work.task, shard.file)}
        assert made & set(asked) <= kept | {name for shard in todo for name in shard.entries}
        lines = [name for shard in todo for name in shard.entries]
        assert len(lines) == len(set(lines))
        assert set(asked) <= kept | set(lines) <= set(asked) | made
        for shard in todo:
            # All of a shard is made, some of it (the rest cannot be read), or nothing.
            with writing(shard.file, {"a": 1}) as store:
                ready = data.draw(st.sampled_from([0, 1, len(shard.entries)]))
                for name in shard.entries[:ready]:
                    store.add(name, [Dataset(f"{name}/keypoints", np.zeros((1, 2)))])
                    made.add(name)
            if ready == 0:
                shard.file.unlink()
