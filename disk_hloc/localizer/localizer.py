"""A map in memory, which photos are asked of."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pycolmap

from disk_hloc import models
from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import Pose
from disk_hloc.io import colmap
from disk_hloc.io.exif import device_of
from disk_hloc.io.hloc.global_features import codebook_path, read_codebook
from disk_hloc.io.map_index import read_current
from disk_hloc.models import vlad
from disk_hloc.stages import map_matching

from . import pose as poses
from .query import Query, QueryExtractor, Source, Turner, read_query
from .result import Correspondences, Localization, Retrieved, RigLocalization

# COLMAP's guess of a focal length, as a multiple of the longer side.
_GUESSED_FOCAL_LENGTH = 1.2
# The models that COLMAP and hloc give to photos of which nothing is known.
_UNKNOWN_MODEL = "SIMPLE_RADIAL"

# docs/localization.md has the figures.
MIN_AGREEMENT = 0.4

Camera: TypeAlias = pycolmap.Camera | str


class Localizer:
    """Answers where photos were taken.

    ::

        localizer = Localizer("MAP")  # of disk-hloc map build
        answer = localizer.localize("photo.jpg")
        print(answer)  # where it was taken, or why that is not known
        if answer.localized:
            print(answer.pose.center)  # x, y, z in units of the map

    All that a query needs is read once, so a query costs its own extraction, some matches and a
    pose. One query at a time: give each thread its own localizer.

    Args:
        folder: the map, of ``disk-hloc map build``.
        num_retrieved: how many photos of the map a query is matched with.
        max_keypoints: the largest number of keypoints of a query; None takes the map's.
        max_error: the largest reprojection error of an inlier, in pixels.
        min_agreement: a pose is refused if the share of its inliers among all matches is less than
            this part of what the map's own photos reach; 0 refuses none for that.
        device: ``auto``, ``cpu``, ``cuda``, ...
        memory_budget: bytes; local descriptors that are larger stay on the disk.

    Raises:
        DiskHlocError: the folder holds no map, or one that is broken.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        num_retrieved: int = 10,
        max_keypoints: int | None = 2048,
        max_error: float = poses.MAX_ERROR_PX,
        min_agreement: float = MIN_AGREEMENT,
        device: str = "auto",
        memory_budget: int = 1 << 30,
    ) -> None:
        if num_retrieved < 1 or not max_error > 0:
            raise DiskHlocError(
                f"expected at least one retrieved photo and an error of more than 0 pixels, found "
                f"{num_retrieved} and {max_error}"
            )
        if not 0 <= min_agreement <= 1:
            raise DiskHlocError(f"the least agreement must be from 0 to 1, found {min_agreement}")
        self.map, self.index, self.frame = read_current(Path(folder), memory_budget)
        for kind, conf in (("extractors", self.map.extractor), ("matchers", self.map.matcher)):
            if not models.has(kind, conf["model"]["name"]):
                raise DiskHlocError(
                    f"{self.map.path} was made with {conf['model']['name']!r}, which is not one of "
                    f"the {kind} here: {', '.join(models.names(kind))}"
                )
        self.codebook = read_codebook(codebook_path(self.map.global_descriptors))
        lengths = self.index.global_descriptors.shape[1], self.index.descriptors.shape[1]
        if lengths != (self.codebook.size + 1, self.codebook.shape[1]):
            raise DiskHlocError(f"the codebook of {self.map.path} is another one: build it again")
        self.num_retrieved, self.max_error = num_retrieved, max_error
        self.min_share = min_agreement * (self.index.agreement or 0.0)
        self._turner = Turner(self.index)
        self._extract = QueryExtractor(self.map.extractor, max_keypoints, device)
        matcher = models.load("matchers", self.map.matcher["model"]["name"])
        self._matcher = matcher(self.map.matcher["model"]).to(self._extract.model.device).eval()
        self._cameras = {
            key: pycolmap.Camera(camera_id=key, **camera)
            for key, camera in self.index.cameras.items()
        }
        self._camera_of_device = dict(zip(self.index.devices, self.index.camera_ids, strict=True))
        self._tensors = lru_cache(maxsize=4 * num_retrieved)(
            partial(map_matching.tensors_of, self.index, device=self._extract.model.device)
        )

    def localize(
        self,
        image: Source,
        camera: Camera | None = None,
        *,
        mask: Path | str | np.ndarray | None = None,
    ) -> Localization:
        """Find the pose of a photo.

        Args:
            image: the path of a photo, the bytes of its file, or its pixels, (H, W, 3) uint8 RGB as
                stored.
            camera: its intrinsics, of the photo as it is stored: COLMAP's camera, or its text
                ``"PINHOLE fx,fy,cx,cy"``. Without it they are those of the map's photos that the
                same device took, else from EXIF data and refined with the pose, else estimated
                with it.
            mask: the path of a mask, black where no keypoints may be, or (H, W) bool, True where
                they may be.

        Raises:
            DiskHlocError: the photo or mask cannot be read, or the camera has another size.
        """
        clock = _Clock()
        with clock("read"):
            query = read_query(image, mask)
        intrinsics = self._intrinsics(query, camera)
        seen = self._see(query, clock)
        if seen.reason is not None or seen.found is None:
            return replace(seen.answer, reason=seen.reason, seconds=clock.seconds)
        found = seen.found
        with clock("pose"):
            estimate = poses.estimate(
                found.keypoints.astype(np.float64) + 0.5, found.xyz, intrinsics.camera,
                focal_length=intrinsics.focal_length, max_error=self.max_error,
            )  # fmt: skip
        answer = self._answer(seen, estimate, intrinsics.source)
        if estimate is not None and answer.reason is None:
            answer = self._posed(answer, colmap.to_pose(estimate.cam_from_world))
            answer = replace(answer, covariance=estimate.covariance)
        return replace(answer, seconds=clock.seconds)

    def localize_rig(
        self,
        images: Sequence[Source],
        cams_from_rig: Sequence[Pose],
        cameras: Sequence[Camera],
        *,
        masks: Sequence[Path | str | np.ndarray | None] | None = None,
    ) -> RigLocalization:
        """Find the pose of photos whose relative poses are known, as one generalized camera.

        The photos of a calibrated rig, or a sequence with its odometry in units of the map.

        Args:
            images: the photos, see :meth:`localize`.
            cams_from_rig: the pose of each photo's camera in the frame of the rig; of a sequence,
                that of its first photo.
            cameras: the intrinsics of each.
            masks: of each, see :meth:`localize`.

        Raises:
            DiskHlocError: see :meth:`localize`; or the numbers of photos, poses and cameras differ.
        """
        if not (len(images) == len(cams_from_rig) == len(cameras) and images):
            raise DiskHlocError(
                f"a rig needs a pose and a camera for each photo, found {len(images)} photos, "
                f"{len(cams_from_rig)} poses and {len(cameras)} cameras"
            )
        if masks is not None and len(masks) != len(images):
            raise DiskHlocError(f"found {len(masks)} masks of {len(images)} photos")
        clock = _Clock()
        seen, intrinsics = [], []
        for i, image in enumerate(images):
            with clock("read"):
                query = read_query(image, masks[i] if masks is not None else None)
            intrinsics.append(self._intrinsics(query, cameras[i]).camera)
            seen.append(self._see(query, clock))
        found = [one.found or _NOTHING for one in seen]
        with clock("pose"):
            estimate = poses.estimate_rig(
                [part.keypoints.astype(np.float64) + 0.5 for part in found],
                [part.xyz for part in found],
                intrinsics,
                [colmap.from_pose(pose) for pose in cams_from_rig],
                max_error=self.max_error,
            )  # fmt: skip
        refusal = self._refusal(estimate, sum(len(part.keypoints) for part in found))
        sound = refusal is None
        rig = colmap.to_pose(estimate.cam_from_world) if estimate is not None and sound else None
        answers, start = [], 0
        for one, part, camera, cam_from_rig in zip(
            seen, found, intrinsics, cams_from_rig, strict=True
        ):
            end = start + len(part.keypoints)
            own = None
            if estimate is not None:
                own = replace(estimate, camera=camera, inliers=estimate.inliers[start:end])
            start = end
            answer = self._answer(one, own, "given")
            if rig is not None:
                answer = replace(answer, camera=camera, camera_from="given")
                answer = self._posed(answer, _compose(cam_from_rig, rig))
            elif answer.reason is None:
                answer = replace(answer, reason=f"the photos together: {refusal}")
            answers.append(answer)
        num_inliers = sum(answer.num_inliers for answer in answers)
        return RigLocalization(
            pose=rig,
            reason=refusal,
            covariance=estimate.covariance if estimate is not None and sound else None,
            images=answers,
            num_inliers=num_inliers,
            log10_chance=0.0 if estimate is None else estimate.log10_chance,
            seconds=clock.seconds,
        )

    def _intrinsics(self, query: Query, camera: Camera | None) -> _Intrinsics:
        """Return what is known of a query's camera."""
        width, height = query.size
        if isinstance(camera, str):
            return _Intrinsics(colmap.camera_object(camera, width, height), "given", "known")
        if camera is not None:
            if (camera.width, camera.height) != query.size:
                raise DiskHlocError(
                    f"the camera has {camera.width} x {camera.height} pixels, the photo {width} x "
                    f"{height}: give both of the same image, as it is stored"
                )
            return _Intrinsics(camera, "given", "known")
        device = device_of(query.exif, query.size)
        if device is not None and device in self._camera_of_device:
            known = self._cameras[self._camera_of_device[device]]
            return _Intrinsics(known, "map", "known")
        focal_length = query.exif.focal_length_px(query.size)
        source, known_as = ("exif", "guessed") if focal_length else ("estimated", "unknown")
        guess = focal_length or _GUESSED_FOCAL_LENGTH * max(query.size)
        params = [guess, width / 2, height / 2, 0.0]
        made = pycolmap.Camera(model=_UNKNOWN_MODEL, width=width, height=height, params=params)
        return _Intrinsics(made, source, known_as)

    def _see(self, query: Query, clock: _Clock) -> _Seen:
        """Extract a query's features, and match them with those of similar photos."""
        with clock("turn"):
            turn = self._turner(query)
        with clock("extract"):
            features = self._extract(query, turn)
        keypoints = features["keypoints"]
        answer = Localization(turn=90 * turn, num_keypoints=len(keypoints))
        if len(keypoints) < 2:
            return _Seen(answer, None, "it has no keypoints")
        with clock("retrieve"):
            vector = vlad.describe(features["descriptors"], self.codebook)
            similarities = self.index.global_descriptors @ vector
            order = np.argsort(-similarities, kind="stable")[: self.num_retrieved]
        with clock("match"):
            found, retrieved = self._match(features, [int(i) for i in order], similarities)
        answer = replace(answer, retrieved=retrieved, num_correspondences=len(found.keypoints))
        reason = None
        if len(found.keypoints) < 4:
            reason = f"only {len(found.keypoints)} of its keypoints match points of the map"
        return _Seen(answer, found, reason)

    def _match(
        self, features: Mapping[str, np.ndarray], images: Sequence[int], similarities: np.ndarray
    ) -> tuple[Correspondences, list[Retrieved]]:
        """Return which points the query's keypoints may see, each pair of both once."""
        query = map_matching.as_tensors(
            features["keypoints"], features["descriptors"].T, features["image_size"],
            self._extract.model.device,
        )  # fmt: skip
        matched = map_matching.match(self._matcher, query, self.index, images, self._tensors)
        parts = [
            np.column_stack([keypoints, self.index.points[rows], np.full(len(rows), number), rows])
            for number, (keypoints, rows) in enumerate(pairs.T for pairs in matched)
        ]
        retrieved = [
            Retrieved(self.index.names[image], float(similarities[image]), len(pairs))
            for image, pairs in zip(images, matched, strict=True)
        ]
        both = np.concatenate(parts) if parts else np.zeros((0, 4), np.int64)
        _, first = np.unique(both[:, :2], axis=0, return_index=True)
        keypoint, point, number, row = both[np.sort(first)].T
        return Correspondences(
            keypoints=features["keypoints"][keypoint],
            points=self.index.point_ids[point],
            xyz=self.index.xyz[point],
            inliers=np.zeros(len(keypoint), bool),
            images=number,
            places=self.index.keypoints[row],
        ), retrieved

    def _answer(self, seen: _Seen, estimate: poses.Estimate | None, source: str) -> Localization:
        """Return what is known of a query without its pose: why it has none, unless it has."""
        answer, found = seen.answer, seen.found
        if found is None or estimate is None:
            return replace(answer, reason=seen.reason or _no_pose(0, answer.num_correspondences))
        inliers = np.bincount(
            found.images[estimate.inliers], minlength=len(answer.retrieved)
        ).tolist()
        num_inliers = int(estimate.inliers.sum())
        return replace(
            answer,
            reason=self._refusal(estimate, answer.num_correspondences),
            camera=estimate.camera,
            camera_from=source,
            num_inliers=num_inliers,
            log10_chance=estimate.log10_chance,
            retrieved=[
                replace(one, inliers=count)
                for one, count in zip(answer.retrieved, inliers, strict=True)
            ],
            correspondences=replace(found, inliers=estimate.inliers),
        )

    def _refusal(self, estimate: poses.Estimate | None, num: int) -> str | None:
        """Return why a pose is not believed, or None."""
        num_inliers = 0 if estimate is None else int(estimate.inliers.sum())
        if estimate is None or not estimate.is_sound:
            return _no_pose(num_inliers, num)
        share = num_inliers / num
        if share < self.min_share:
            return (
                f"only {100 * share:.0f} % of its {num} matches agree with the best pose, and "
                f"{100 * (self.index.agreement or 0):.0f} % of those of the map's own photos: it "
                "shows a place that looks like this one, or much has changed"
            )
        return None

    def _posed(self, answer: Localization, pose: Pose) -> Localization:
        position = None if self.frame is None else self.frame.wgs84(pose.center)
        return replace(answer, pose=pose, reason=None, position=position)


@dataclass(frozen=True)
class _Intrinsics:
    """A camera, where it is from, and whether its focal length is to be estimated."""

    camera: pycolmap.Camera
    source: str
    focal_length: str


@dataclass(frozen=True)
class _Seen:
    """What a query sees of the map, or why it sees nothing."""

    answer: Localization
    found: Correspondences | None
    reason: str | None


_NOTHING = Correspondences(
    np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0, bool),
    np.zeros(0, np.int64), np.zeros((0, 2), np.float32),
)  # fmt: skip


def _no_pose(num_inliers: int, num: int) -> str:
    return (
        f"no pose agrees with more of its {num} possible points than chance would ({num_inliers} "
        "do): it shows another place, or too little of this one"
    )


def _compose(cam_from_rig: Pose, rig_from_world: Pose) -> Pose:
    """Return cam_from_world."""
    return colmap.to_pose(colmap.from_pose(cam_from_rig) * colmap.from_pose(rig_from_world))


class _Clock:
    """The durations of steps, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start
