"""What all models share: checked confs, weights that fit, the keypoint budget."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from disk_hloc.confs import (
    NAME_OR_PATH,
    Value,
    or_null,
    require_known_keys,
    require_values,
    whole_number,
)
from disk_hloc.errors import DiskHlocError
from disk_hloc.weights import identify, load_into

# Keys that several models have.
_SHARED = {"weights": NAME_OR_PATH, "max_keypoints": or_null(whole_number(0))}


class Model(nn.Module):
    """A network or matcher that is made from a conf's ``model``.

    Args:
        conf: values that differ from ``default_conf``; ``name`` is ignored.

    Attributes:
        default_conf: every key of the conf and its default.
        conf_values: what each key may be set to, beside those that models share.
        required_data_keys: what ``forward`` needs.
        conf: the whole conf.

    Raises:
        DiskHlocError: the conf has an unknown key, or a value of another type or out of range.
    """

    default_conf: ClassVar[dict[str, Any]] = {}
    conf_values: ClassVar[dict[str, Value]] = {}
    required_data_keys: ClassVar[list[str]] = []

    def __init__(self, conf: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.conf = self.whole_conf(conf or {})

    @classmethod
    def whole_conf(cls, conf: Mapping[str, Any]) -> dict[str, Any]:
        """Return a conf with all keys, without ``name``.

        Raises:
            DiskHlocError: it has an unknown key, or a value of another type or out of range.
        """
        given = dict(conf)
        name = given.pop("name", cls.__name__)
        require_known_keys(given, cls.default_conf, f"model {name}")
        require_values(given, cls.values(), f"model {name}")
        return {**cls.default_conf, **given}

    @classmethod
    def values(cls) -> dict[str, Value]:
        """Return what each key of the conf may be set to."""
        known = {**_SHARED, **cls.conf_values}
        return {key: known[key] for key in cls.default_conf}

    @classmethod
    def identity(cls, conf: Mapping[str, Any]) -> dict[str, Any]:
        """Return all that predictions depend on: a whole conf, with the digest of its weights.

        Args:
            conf: a conf's ``model``.

        Raises:
            DiskHlocError: the conf has an unknown key or an impossible value, or the weights do
                not exist.
        """
        whole = {**cls.whole_conf(conf), **conf}
        if "weights" in whole:
            whole["weights"] = identify(whole["weights"])
        return whole

    @property
    def device(self) -> torch.device:
        """The device of the parameters; the CPU without any."""
        values = next(chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if values is None else values.device

    def load_parameters(
        self,
        network: nn.Module,
        parameters: Mapping[str, Tensor],
        described_as: str,
        derived: Collection[str] = (),
    ) -> None:
        """Load the parameters of ``conf["weights"]`` into a network. Superfluous ones are ignored.

        Args:
            network: gets the parameters.
            parameters: by the network's names.
            described_as: the network's name in an error.
            derived: names of buffers that the network computes itself.

        Raises:
            DiskHlocError: a parameter is missing or has another shape.
        """
        load_into(network, parameters, self.conf["weights"], described_as, derived)


@dataclass(frozen=True)
class Detections:
    """What an extractor found in images that it took together, before the keypoint budget.

    Only the chosen keypoints are located and described, so both may be costly.

    Attributes:
        scores: (N,) float32 of each image; a larger score is a better keypoint.
        locate: (M,) int64 indices of each image -> (M, 2) float32 x and y in pixels of each, (0, 0)
            at the centre of the top-left pixel.
        describe: (M,) int64 indices of each image -> (D, M) float32 descriptors of each, of unit
            length.
    """

    scores: Sequence[Tensor]
    locate: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    describe: Callable[[Sequence[Tensor]], Sequence[Tensor]]

    @classmethod
    def of_one(
        cls,
        scores: Tensor,
        locate: Callable[[Tensor], Tensor],
        describe: Callable[[Tensor], Tensor],
    ) -> Detections:
        """Return the detections of a single image."""
        return cls([scores], lambda chosen: [locate(*chosen)], lambda chosen: [describe(*chosen)])


class Extractor(Model):
    """Detects and describes the keypoints of images.

    A subclass has the key ``max_keypoints`` in its conf (None keeps all) and implements
    :meth:`detect`; masks and the budget are applied here.

    Attributes:
        images_at_once: how many images of one size to pass together, by type of device; 1 where
            it is not listed. A batch does not help a CPU, whose caches it would fill.
        describes_pixels: whether :meth:`describe` is implemented.
        trainable: whether ``disk-hloc train`` can train it.
        default_matcher: the conf of configs/matchers.yaml that matches its features where no other
            is given.
    """

    required_data_keys: ClassVar[list[str]] = ["image"]
    images_at_once: ClassVar[dict[str, int]] = {"cuda": 8}
    describes_pixels: ClassVar[bool] = False
    trainable: ClassVar[bool] = False
    default_matcher: ClassVar[str] = "disk"

    def forward(self, data: Mapping[str, Any]) -> dict[str, list[Tensor]]:
        """Extract the features of a batch of images.

        Args:
            data: ``image``, (B, 3, H, W) RGB or (B, 1, H, W) grayscale, float in [0, 1];
                optionally ``keep``, a function for each image that maps (N, 2) float32 keypoints
                to (N,) bool, True where a keypoint may be. The others are dropped before
                ``max_keypoints`` are chosen; they still suppress their neighbours.

        Returns:
            For each image ``keypoints`` (N, 2) float32 x and y in pixels, (0, 0) at the centre of
            the top-left pixel; ``keypoint_scores`` (N,) float32; ``descriptors`` (D, N) float32 of
            unit length.
        """
        keep = data.get("keep")
        prediction: dict[str, list[Tensor]] = {
            "keypoints": [],
            "keypoint_scores": [],
            "descriptors": [],
        }
        for detections in self.detect(data["image"]):
            scores = detections.scores
            chosen: Sequence[Tensor] | None = None
            if keep is not None:
                everything = [torch.arange(len(one), device=one.device) for one in scores]
                located = detections.locate(everything)
                judges = keep[len(prediction["keypoints"]) :]
                chosen = [
                    indices[judge(xy)]
                    for indices, judge, xy in zip(everything, judges, located, strict=False)
                ]
                scores = [one[indices] for one, indices in zip(scores, chosen, strict=True)]
            best = self.best_of_each(scores)
            if chosen is not None:
                chosen = [indices[kept] for indices, kept in zip(chosen, best, strict=True)]
            prediction["keypoints"] += detections.locate(chosen or best)
            prediction["keypoint_scores"] += [
                one[kept] for one, kept in zip(scores, best, strict=True)
            ]
            prediction["descriptors"] += detections.describe(chosen or best)
        return prediction

    @abstractmethod
    def detect(self, image: Tensor) -> Iterator[Detections]:
        """Yield the detections of a batch, image by image or of several together.

        They need to be valid only until the next are asked for.

        Args:
            image: as in :meth:`forward`.
        """

    def describe(self, image: Tensor, xy: Tensor) -> Tensor:
        """Describe given positions in one image, keypoints or not.

        Args:
            image: (1, 3, H, W) RGB or (1, 1, H, W) grayscale float in [0, 1].
            xy: (N, 2) float x and y in pixels, (0, 0) at the centre of the top-left pixel. An
                extractor that describes whole pixels takes the nearest.

        Returns:
            (D, N) float32 of unit length.
        """
        raise NotImplementedError

    def best_of_each(self, scores: Sequence[Tensor]) -> list[Tensor]:
        """Return the indices of the best keypoints of images that were detected together."""
        return [self.best(one, self.conf["max_keypoints"]) for one in scores]

    def best(self, scores: Tensor, max_keypoints: int | None) -> Tensor:
        """Return the (M,) int64 indices of the highest scores, in the order of detection.

        Among equal scores the first are chosen. A subclass may order keypoints otherwise.

        Args:
            scores: (N,).
            max_keypoints: the largest M; None keeps all.
        """
        if max_keypoints is None or len(scores) <= max_keypoints:
            return torch.arange(len(scores), device=scores.device)
        order = torch.sort(scores, descending=True, stable=True).indices
        return order[:max_keypoints].sort().values


class Matcher(Model):
    """Matches the features of image pairs.

    ``forward`` takes ``required_data_keys``, of ``keypoints{i}`` (B, N, 2), ``descriptors{i}``
    (B, D, N), ``image_size{i}`` (B, 2) and so on for i = 0, 1, and returns ``matches0`` (B, N)
    int64, -1 for no match, and ``matching_scores0`` (B, N) in [0, 1].

    Attributes:
        pairs_at_once: how many pairs to pass together, by type of device; 1 where it is not listed.
        takes_unequal: whether these may have different numbers of keypoints. Then images with fewer
            are filled up with zeros, and ``num_keypoints{i}`` (B,) int64 has how many there are.
            Without it pairs that are passed together have equal numbers.
        bytes_kept: what is kept of the last images, in bytes for each value of their descriptors,
            by type of device; 0 where it is not listed. Pairs of few images are passed in a row.
    """

    pairs_at_once: ClassVar[dict[str, int]] = {}
    takes_unequal: ClassVar[bool] = False
    bytes_kept: ClassVar[dict[str, int]] = {}


class DenseMatcher(Model):
    """Matches two images without keypoints.

    ``forward`` takes ``image0`` (1, 1, H0, W0) and ``image1`` (1, 1, H1, W1), grayscale float in
    [0, 1], and returns ``keypoints0`` and ``keypoints1`` (K, 2) float32 x and y in pixels, (0, 0)
    at the centre of the top-left pixel, and ``scores`` (K,) in [0, 1].

    Attributes:
        stride: sides of images are multiples of it, in pixels.
    """

    required_data_keys: ClassVar[list[str]] = ["image0", "image1"]
    stride: ClassVar[int] = 1


def kornia_class(name: str) -> Any:
    """Return a class of ``kornia.feature``.

    Raises:
        DiskHlocError: the installed kornia is too old to have it.
    """
    import kornia.feature

    if not hasattr(kornia.feature, name):
        raise DiskHlocError(
            f"kornia {kornia.__version__} has no {name}: pip install --upgrade kornia"
        )
    return getattr(kornia.feature, name)
