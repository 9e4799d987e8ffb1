"""What an output folder says is true of the input as it is, whatever was done to it before.

``pytest tests/test_changing_input.py --sequences 200`` tries more sequences.
"""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from support.changing_input import NAMES, VARIANTS, Input, run, write_weights

index = st.integers(0, len(NAMES) - 1)
STEPS = st.one_of(
    st.tuples(st.just("write"), index, st.integers(0, VARIANTS - 1)),
    st.tuples(st.just("write"), index, st.integers(0, VARIANTS - 1)),
    st.tuples(st.just("touch"), index),
    st.tuples(st.just("rename"), index, index),
    st.tuples(st.just("remove"), index),
    st.tuples(st.just("mask"), index, st.sampled_from([0, 30, 60])),
    st.tuples(st.just("replace_weights"), st.integers(0, 1)),
    st.tuples(st.just("set_conf"), st.sampled_from([30, 40])),
    st.tuples(st.just("kill"), st.floats(0, 0.8)),
    st.tuples(st.just("run")),
    st.tuples(st.just("run")),
)

# As in tests/test_kills.py: starting a process takes no time.
processes = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    processes.set_forkserver_preload(["support.changing_input"])
    return write_weights(tmp_path_factory.mktemp("weights"))


def test_files_are_those_of_one_run_on_the_final_input(
    weights: list[Path], tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> None:
    @seed(0)
    @settings(
        max_examples=pytestconfig.getoption("--sequences"),
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(st.lists(STEPS, min_size=3, max_size=12))
    def sequences(steps: list[tuple[object, ...]]) -> None:
        work = Input(tmp_path_factory.mktemp("input"), weights)
        work.begin()
        work.run("many")
        for name, *arguments in steps:
            if name == "run":
                work.run("many")
            elif name == "kill":
                process = processes.Process(target=run, args=(work.folder, weights, "many"))
                process.start()
                process.join(float(str(arguments[0])))
                process.kill()
                process.join()
            else:
                getattr(work, str(name))(*arguments)
        work.run("many")
        work.run("once")
        assert work.files("many") == work.files("once")
        shutil.rmtree(work.folder)

    sequences()
