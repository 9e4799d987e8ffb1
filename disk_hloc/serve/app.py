"""The application: its routes, and what it answers."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException

from disk_hloc import __version__
from disk_hloc.errors import DiskHlocError, is_out_of_memory
from disk_hloc.io.map_folder import SETTINGS, MapFolder
from disk_hloc.localizer import Localizer
from disk_hloc.log import logger

from . import answers, map_view, page
from .limits import Limits, Refused
from .uploads import CAMERA, FORMATS, PHOTO, Query, read_query
from .worker import QueueFull, Worker

# Beyond its time by this factor, a query hardly ends.
_STUCK = 10
_STOPPING = "the server is stopping"
T = TypeVar("T")


@dataclass
class Service:
    """A map that is served.

    Attributes:
        localizer: of the map; its ``localize`` is called by the worker alone.
        limits: of the server.
        worker: who localizes.
        uploads: how many photos are on their way.
    """

    localizer: Localizer
    limits: Limits
    uploads: int = 0
    worker: Worker[Query, answers.Localization] = field(init=False)
    _pending: set[asyncio.Future[Any]] = field(default_factory=set)
    _closing: bool = False
    _stopping: bool = False

    def __post_init__(self) -> None:
        self._numbers = {name: i for i, name in enumerate(self.localizer.index.names)}
        self._served = _version_of(self.localizer.map)
        self.worker = Worker(self._answer, self.limits.queue)

    def _answer(self, query: Query) -> answers.Localization:
        """Localize, in the worker's thread."""
        found = self.localizer.localize(query.photo, query.camera).to_json()
        for key in ("covariance", "center_covariance"):
            # Infinite where the points leave a direction open, which JSON cannot say.
            if found[key] is not None and not np.isfinite(found[key]).all():
                found[key] = None
        for one in found["retrieved"]:
            one["photo"] = self._numbers[one["name"]]
        return answers.Localization.model_validate(found)

    async def localize(self, request: Request) -> answers.Localization:
        """Answer a request for a pose.

        Raises:
            Refused: there is no room, the upload is not what it should be, or the time is over.
        """
        self._require_room()
        self.uploads += 1
        try:
            query = await self._unless_stopped(
                asyncio.ensure_future(read_query(request, self.limits))
            )
        finally:
            self.uploads -= 1
        try:
            future = self.worker.submit(query)
        except QueueFull as full:
            raise _busy(full.retry_after) from full
        # Else an abandoned query would keep its photo until it is over.
        del query
        return await self._answer_of(future, request)

    def _require_room(self) -> None:
        if self._closing:
            raise Refused(503, _STOPPING)
        if self.uploads >= self.limits.uploads:
            raise _busy(1)
        try:
            self.worker.require_room()
        except QueueFull as full:
            raise _busy(full.retry_after) from full

    async def _answer_of(
        self, future: Future[answers.Localization], request: Request
    ) -> answers.Localization:
        answer = asyncio.wrap_future(future)
        # Comes when the client has left.
        left = asyncio.ensure_future(request.receive())
        both: set[asyncio.Future[Any]] = {answer, left}
        try:
            await self._unless_stopped(
                asyncio.ensure_future(
                    asyncio.wait(
                        both,
                        timeout=self.limits.answer_seconds,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                )
            )
            if answer.done():
                return _result(answer)
            if left.done():
                raise Refused(400, "the client has left")
            what = "it is still running" if future.running() else "it was waiting for others"
            raise Refused(
                504, f"no answer after {self.limits.answer_seconds:g} s: {what}; try again later"
            )
        finally:
            left.cancel()
            self.worker.abandon(future)
            # One that still runs ends without anyone who takes its error.
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _unless_stopped(self, future: asyncio.Future[T]) -> T:
        if self._stopping:
            future.cancel()
        self._pending.add(future)
        try:
            return await future
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            raise Refused(503, _STOPPING) from None
        finally:
            self._pending.discard(future)

    async def stop(self, grace_seconds: float) -> None:
        """Take no more requests, and refuse those that have no answer after some time."""
        self._closing = True
        if self._pending:
            await asyncio.wait(set(self._pending), timeout=grace_seconds)
        self._stopping = True
        for future in set(self._pending):
            future.cancel()

    def health(self) -> answers.Health:
        """Return whether queries are answered."""
        running = self.worker.running_seconds
        stuck = running > _STUCK * self.limits.answer_seconds
        return answers.Health(
            status="stuck" if stuck else "ok",
            version=__version__,
            outdated=_version_of(self.localizer.map) != self._served,
            waiting=self.worker.waiting,
            running_seconds=round(running, 3),
        )


def _version_of(folder: MapFolder) -> tuple[int, int] | None:
    """Return what tells a map's present state from others; None without one."""
    try:
        status = (folder.path / SETTINGS).stat()
    except OSError:
        return None
    # The file is replaced by another one with each change.
    return status.st_ino, status.st_mtime_ns


def _busy(retry_after: int) -> Refused:
    return Refused(429, f"too many queries at a time: try again in {retry_after} s", retry_after)


def _result(answer: asyncio.Future[answers.Localization]) -> answers.Localization:
    try:
        return answer.result()
    except DiskHlocError as error:
        if is_out_of_memory(error):
            raise Refused(503, "not enough memory for this photo: send a smaller one") from error
        raise Refused(422, str(error)) from error
    except MemoryError as error:
        raise Refused(503, "not enough memory for this photo: send a smaller one") from error


_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [PHOTO],
                    "additionalProperties": False,
                    "properties": {
                        PHOTO: {
                            "type": "string",
                            "format": "binary",
                            "description": "A photo as the camera made it: "
                            + ", ".join(dict.fromkeys(FORMATS.values())),
                        },
                        CAMERA: {
                            "type": "string",
                            "description": "Its intrinsics, of the photo as stored, if they are "
                            "known: COLMAP's model and parameters in pixels.",
                            "example": "PINHOLE 919.8,921.4,507.1,335.8",
                        },
                    },
                }
            }
        },
    }
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The form is broken."},
    403: {"description": "A page of another site asks."},
    408: {"description": "The upload took too long."},
    413: {"description": "The upload or the photo is too large."},
    415: {"description": "It is no form, or the file no photo that is read."},
    422: {"description": "The photo or the camera cannot be read."},
    429: {"description": "Too many queries at a time; see Retry-After."},
    503: {"description": "The server is stopping, or its memory is too small."},
    504: {"description": "The time for an answer is over."},
}
_REFUSALS = {key: {**value, "model": answers.Refusal} for key, value in _REFUSALS.items()}
_NO_CACHE = {"Cache-Control": "no-store"}


def create_app(service: Service) -> FastAPI:
    """Return the application of a map."""
    localizer = service.localizer
    # Its pages with documentation load their scripts from elsewhere.
    app = FastAPI(
        title="disk_hloc map", version=__version__, docs_url=None, redoc_url=None,
        description="Where was this photo taken?",
    )  # fmt: skip
    described = map_view.describe(
        localizer.map, localizer.index, localizer.frame, service.limits.upload_bytes
    )
    # Encoded once: both are the same for all.
    map_json, points = described.model_dump_json().encode(), map_view.points(localizer.index)
    html = page.read()

    @app.get("/", include_in_schema=False)
    async def show() -> Response:
        return Response(
            html.content, media_type="text/html; charset=utf-8",
            headers={"Content-Security-Policy": html.policy, "Cache-Control": "no-cache"},
        )  # fmt: skip

    @app.post(
        "/localize", response_model=answers.Localization, responses=_REFUSALS, openapi_extra=_FORM
    )
    async def localize(request: Request) -> Response:
        """Find where a photo was taken.

        The status is 200 for a photo that was not localized, too: ``reason`` says why.
        """
        found = await service.localize(request)
        logger.info(
            "%s, %d inliers of %d, %.2f s",
            "Localized" if found.localized else "Not localized",
            found.inliers, found.correspondences, sum(found.seconds.values()),
        )  # fmt: skip
        return Response(found.model_dump_json(), media_type="application/json", headers=_NO_CACHE)

    @app.get("/map", response_model=answers.Map)
    async def show_map() -> Response:
        """Say what is in the map."""
        return Response(map_json, media_type="application/json")

    @app.get(
        "/map/points",
        responses={
            200: {
                "content": {"application/octet-stream": {}},
                "description": "N points: N * 3 little-endian float32 x, y, z, then N * 3 bytes "
                "red, green, blue; N is shown_points of /map.",
            }
        },
        response_class=Response,
    )
    async def show_points() -> Response:
        """Return points of the map, up to a number that pages can draw."""
        return Response(points, media_type="application/octet-stream")

    @app.get(
        "/map/photos/{photo}/thumbnail",
        responses={
            200: {"content": {"image/jpeg": {}}, "description": "Up to 640 pixels wide and high."},
            404: {"model": answers.Refusal, "description": "There is no such photo."},
        },
        response_class=FileResponse,
    )
    def show_thumbnail(photo: int = Path(ge=0, description="Its number.")) -> Response:
        """Return a small version of a photo of the map."""
        path = map_view.thumbnail(localizer.map, localizer.index, photo)
        if path is None:
            raise Refused(404, "the map has no small version of this photo")
        return FileResponse(
            path, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"}
        )

    @app.get("/healthz", response_model=answers.Health, responses={503: {"model": answers.Health}})
    async def health() -> Response:
        """Say whether queries are answered."""
        state = service.health()
        return Response(
            state.model_dump_json(), 200 if state.status == "ok" else 503,
            media_type="application/json", headers=_NO_CACHE,
        )  # fmt: skip

    _explain_errors(app)
    return app


def _explain_errors(app: FastAPI) -> None:
    """Answer every error with a reason in JSON."""

    def answer(status: int, reason: str, retry_after: int | None = None) -> JSONResponse:
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return JSONResponse({"reason": reason}, status, headers={**_NO_CACHE, **headers})

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        logger.info("Refused (%d): %s", error.status, error.reason)
        return answer(error.status, error.reason, error.retry_after)

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(422, "; ".join(str(one["msg"]) for one in error.errors()))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        return answer(500, "a bug in the server: its log says more")
