"""Degrees to metres, compared with COLMAP and with the length of a degree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.io.gps import LocalFrame, enu_from_wgs84, read_positions, wgs84_from_enu

near = st.tuples(st.floats(-0.01, 0.01), st.floats(-0.01, 0.01), st.floats(-500, 500))


@settings(deadline=None, max_examples=50)
@given(st.floats(-89, 89), st.floats(-180, 180), st.floats(-100, 8000), near)
@pytest.mark.skipif(
    not hasattr(pycolmap, "GPSTransformEllipsoid"), reason="another name before pycolmap 4"
)
def test_agrees_with_colmap(
    latitude: float, longitude: float, altitude: float, away: tuple[float, float, float]
) -> None:
    origin = np.array([latitude, longitude, altitude])
    point = (origin + away)[None]
    expected = pycolmap.GPSTransform(pycolmap.GPSTransformEllipsoid.WGS84).ellipsoid_to_enu(
        point, *origin
    )
    np.testing.assert_allclose(enu_from_wgs84(point, origin), expected, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-100, 8000), near)
def test_metres_go_back_to_degrees(
    latitude: float, longitude: float, altitude: float, away: tuple[float, float, float]
) -> None:
    origin = np.array([latitude, longitude, altitude])
    place = origin + away
    place[0] = np.clip(place[0], -90, 90)
    found = wgs84_from_enu(enu_from_wgs84(place[None], origin), origin)[0]
    assert found[0] == pytest.approx(place[0], abs=1e-9)
    # Around a pole, the same angle is a shorter way.
    turned = (found[1] - place[1] + 180) % 360 - 180
    assert abs(turned) * np.cos(np.radians(place[0])) < 1e-9
    assert found[2] == pytest.approx(place[2], abs=1e-4)


def test_a_frame_says_where_a_point_is() -> None:
    frame = LocalFrame(np.array([45.0, 7.0, 300.0]))
    assert frame.wgs84(np.zeros(3)) == pytest.approx((45, 7, 300))
    latitude, longitude, altitude = frame.wgs84(np.array([21.90, 30.87, 10.0]))
    assert latitude == pytest.approx(45 + 1 / 3600, abs=1e-7)
    assert longitude == pytest.approx(7 + 1 / 3600, abs=1e-7)
    assert altitude == pytest.approx(310, abs=1e-3)


def test_axes_are_east_north_and_up() -> None:
    origin = np.array([45.0, 7.0, 300.0])
    second = 1 / 3600
    points = origin + np.array([[0, second, 0], [second, 0, 0], [0, 0, 10.0]])
    east, north, up = enu_from_wgs84(points, origin)
    # At 45 degrees a second of longitude is 21.90 m, and one of latitude 30.87 m.
    np.testing.assert_allclose(east, [21.90, 0, 0], atol=0.01)
    np.testing.assert_allclose(north, [0, 30.87, 0], atol=0.01)
    np.testing.assert_allclose(up, [0, 0, 10], atol=1e-6)


def test_real_positions(data: Path) -> None:
    folder = data / "folders" / "berlin" / "images"
    positions = read_positions(folder, ["01.jpg", "missing.jpg"])
    assert list(positions) == ["01.jpg"]
    assert positions["01.jpg"].latitude == pytest.approx(52.5189, abs=1e-3)
