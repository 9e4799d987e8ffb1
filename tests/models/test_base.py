"""What all models share: the registry, confs, weights that do not fit, the keypoint budget."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from disk_hloc import models
from disk_hloc.errors import DiskHlocError
from disk_hloc.models.base import DenseMatcher, Detections, Extractor, Matcher, Model, kornia_class
from support.errors import one_line_error

BASES = {"extractors": Extractor, "matchers": Matcher, "dense": DenseMatcher}


@pytest.mark.parametrize("kind", BASES)
def test_every_file_is_a_model_of_its_kind(kind: str) -> None:
    assert models.names(kind)
    for name in models.names(kind):
        model = models.load(kind, name)
        assert issubclass(model, BASES[kind])
        assert model.default_conf
        assert model.required_data_keys
        assert models.has(kind, name)
    assert not models.has(kind, "superpoint")
    assert not models.has(kind, "__init__")


def test_the_registry_imports_no_network() -> None:
    code = (
        "import sys; from disk_hloc import models; models.has('extractors', 'disk'); "
        "assert not {'torch', 'kornia', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Fixed(Extractor):
    """Detections by row, as many as scores; it notes what it is asked for."""

    default_conf: ClassVar[dict[str, Any]] = {"max_keypoints": None, "weights": "mine.pth"}
    scores = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0, 4.0])

    def detect(self, image: torch.Tensor) -> Iterator[Detections]:
        self.asked: list[tuple[str, list[int]]] = []

        def note(what: str, chosen: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
            self.asked.append((what, chosen.tolist()))
            return result

        places = torch.arange(len(self.scores)).float()[:, None].expand(-1, 2)
        for _ in image:
            yield Detections.of_one(
                self.scores,
                lambda chosen: note("locate", chosen, places[chosen]),
                lambda chosen: note("describe", chosen, torch.ones(2, len(chosen))),
            )


IMAGE = torch.zeros(1, 3, 4, 4)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [(None, [0, 1, 2, 3, 4, 5]), (6, [0, 1, 2, 3, 4, 5]), (2, [2, 4]), (4, [0, 2, 4, 5]), (0, [])],
)
def test_the_best_keypoints_are_kept_in_the_order_of_detection(budget, expected) -> None:
    model = Fixed({"max_keypoints": budget})
    found = model({"image": IMAGE})
    assert found["keypoints"][0][:, 0].tolist() == expected
    assert found["keypoint_scores"][0].tolist() == Fixed.scores[expected].tolist()
    # Nothing else was located or described.
    assert model.asked == [("locate", expected), ("describe", expected)]


def test_a_mask_is_applied_before_the_budget() -> None:
    model = Fixed({"max_keypoints": 3})
    keep = [lambda xy: (xy[:, 0] != 4) & (xy[:, 1] != 0), lambda xy: xy[:, 0] < 0]
    found = model({"image": IMAGE.expand(2, -1, -1, -1), "keep": keep})
    # Of 1 and 3, which tie, the first.
    assert found["keypoints"][0][:, 0].tolist() == [1, 2, 5]
    assert found["keypoints"][1].shape == (0, 2)


def test_an_unknown_key_of_a_conf() -> None:
    with pytest.raises(DiskHlocError) as error:
        Fixed({"name": "fixed", "max_keypoint": 5})
    assert one_line_error(
        error, "model fixed", "unknown key 'max_keypoint'", "did you mean 'max_keypoints'?"
    )


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"weight": torch.zeros(2, 3)}, "missing bias"),
        ({"weight": torch.zeros(9, 3), "bias": torch.zeros(2)}, "size mismatch for weight"),
    ],
)
def test_parameters_that_do_not_fit(parameters, reason) -> None:
    with pytest.raises(DiskHlocError) as error:
        Fixed().load_parameters(nn.Linear(3, 2), parameters, "a linear layer")
    assert one_line_error(error, "'mine.pth'", "another network than a linear layer", reason)


def test_parameters_that_are_derived_may_be_missing() -> None:
    layer = nn.Linear(3, 2)
    parameters = {"weight": torch.ones(2, 3), "of_the_optimizer": torch.zeros(1)}
    Fixed().load_parameters(layer, parameters, "a linear layer", derived=["bias"])
    assert (layer.weight == 1).all()


def test_the_device_is_that_of_the_parameters() -> None:
    assert Model().device == torch.device("cpu")
    model = Model()
    model.layer = nn.Linear(1, 1, device="meta")
    assert model.device == torch.device("meta")


def test_a_kornia_without_the_network() -> None:
    with pytest.raises(DiskHlocError, match=r"kornia .* has no NoSuchNetwork: pip install"):
        kornia_class("NoSuchNetwork")
