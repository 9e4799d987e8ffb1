"""What an output folder says is true of the input as it is, whatever was done to it before.

``pytest tests/test_changing_input.py --sequences 200`` tries more sequences.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from support.changing_input import NAMES, VARIANTS, Input, run, write_weights
from support.processes import processes

# What may happen, and from what its arguments are drawn.
STEPS: dict[str, tuple[range | list[float], ...]] = {
    "write": (range(len(NAMES)), range(VARIANTS)),
    "turn": (range(len(NAMES)), range(1, 4)),
    "touch": (range(len(NAMES)),),
    "rename": (range(len(NAMES)), range(len(NAMES))),
    "remove": (range(len(NAMES)),),
    "mask": (range(len(NAMES)), range(0, 90, 30)),
    "replace_weights": (range(2),),
    "set_conf": (range(30, 50, 10),),
    "kill": ([0.05 * i for i in range(17)],),
    "run": (),
}
WEIGHTS = {"write": 3, "run": 3, "kill": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_weights(tmp_path_factory.mktemp("weights"))


def test_files_are_those_of_one_run_on_the_final_input(
    weights: list[Path], tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    for sequence in range(pytestconfig.getoption("--sequences")):
        chance = random.Random(sequence)
        names = chance.choices(
            list(STEPS), [WEIGHTS.get(name, 1) for name in STEPS], k=chance.randint(3, 15)
        )
        steps = [(name, *map(chance.choice, STEPS[name])) for name in names]
        work = Input(tmp_path / str(sequence), weights)
        work.begin()
        work.run("many")
        for name, *arguments in steps:
            if name == "run":
                work.run("many")
            elif name == "kill":
                process = processes.Process(target=run, args=(work.folder, weights, "many"))
                process.start()
                process.join(arguments[0])
                process.kill()
                process.join()
            else:
                getattr(work, name)(*arguments)
        work.run("many")
        work.run("once")
        assert work.files("many") == work.files("once"), (sequence, steps)
        shutil.rmtree(work.folder)
