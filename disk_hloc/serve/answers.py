"""The answers of the server, as its OpenAPI describes them."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Refusal(BaseModel):
    """Why a request got no answer."""

    reason: str = Field(description="One line for people.")


class Pose(BaseModel):
    """A pose cam_from_world: x right, y down, z forward in the camera."""

    quaternion: list[float] = Field(description="w, x, y, z", min_length=4, max_length=4)
    translation: list[float] = Field(description="In units of the map.", min_length=3, max_length=3)


class Camera(BaseModel):
    """A camera of COLMAP, in pixels; (0, 0) is the corner of the image."""

    model: str = Field(description="COLMAP's name, such as PINHOLE.")
    width: int
    height: int
    params: list[float] = Field(description="In COLMAP's order.")


class Position(BaseModel):
    """A place on earth (WGS84)."""

    latitude: float = Field(description="Degrees, north is positive.")
    longitude: float = Field(description="Degrees, east is positive.")
    altitude: float = Field(description="Metres above sea level.")


class Retrieved(BaseModel):
    """A photo of the map that the query was matched with."""

    photo: int = Field(description="Its number, see /map and /map/photos/{photo}/thumbnail.")
    name: str
    similarity: float = Field(description="Of the global descriptors, a cosine.")
    matches: int
    inliers: int


class Localization(BaseModel):
    """Where the camera was, or why that is not known."""

    localized: bool
    reason: str | None = Field(description="Why there is no pose; null if there is one.")
    cam_from_world: Pose | None
    center: list[float] | None = Field(description="Of the camera, in units of the map.")
    position: Position | None = Field(description="Of the camera, if the map is georeferenced.")
    heading: float | None = Field(
        description="Where it looked, in degrees clockwise from north, likewise."
    )
    covariance: list[list[float]] | None = Field(
        description="6 x 6 of the pose: a small turn in radians, then the translation."
    )
    center_covariance: list[list[float]] | None = Field(
        description="3 x 3 of the center, in squared units of the map."
    )
    camera: Camera | None
    camera_from: str | None = Field(
        description="Where the intrinsics are from: given, map, exif or estimated."
    )
    turn: int = Field(description="Degrees counter-clockwise by which the photo was turned.")
    keypoints: int
    correspondences: int
    inliers: int
    log10_chance: float = Field(description="log10 of the probability of as many by chance.")
    retrieved: list[Retrieved]
    seconds: dict[str, float] = Field(description="Step -> duration.")


class MapPhoto(BaseModel):
    """A photo of the map."""

    name: str
    camera: int = Field(description="Key of its camera in `cameras`.")
    cam_from_world: Pose


class Box(BaseModel):
    """The smallest and largest coordinates of the points."""

    min: list[float]
    max: list[float]


class View(BaseModel):
    """From where to look at the map."""

    center: list[float] = Field(description="Of most of what is in it.")
    radius: float = Field(description="Of most of what is in it.")
    up: list[float] = Field(description="A unit vector.")


class Map(BaseModel):
    """What is in the map."""

    name: str = Field(description="Of its folder.")
    num_photos: int
    num_points: int
    georeference: Position | None = Field(
        description="Where (0, 0, 0) is, if x is east, y north and z up."
    )
    bounding_box: Box | None = Field(description="Of all points.")
    view: View
    cameras: dict[int, Camera]
    photos: list[MapPhoto]
    shown_points: int = Field(description="How many of its points /map/points has.")
    max_upload_bytes: int = Field(description="Of a request to /localize.")


class Health(BaseModel):
    """Whether the server answers queries."""

    status: str = Field(description="ok; or stuck, if a query runs far beyond its time.")
    version: str
    outdated: bool = Field(description="Whether the folder has another map now: restart.")
    waiting: int = Field(description="Queries in the queue.")
    running_seconds: float = Field(description="Of the present query.")
