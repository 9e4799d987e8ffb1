"""The matcher ``disk`` as hloc loads it: this file becomes ``hloc.matchers.disk``."""

from disk_hloc.models.nearest import NearestNeighbors

from ..utils.base_model import BaseModel


class Disk(BaseModel):
    """hloc's interface to :class:`disk_hloc.models.nearest.NearestNeighbors`."""

    default_conf = NearestNeighbors.default_conf
    required_inputs = NearestNeighbors.required_data_keys

    def _init(self, conf):
        self.model = NearestNeighbors({key: conf[key] for key in self.default_conf})

    def _forward(self, data):
        return self.model(data)
