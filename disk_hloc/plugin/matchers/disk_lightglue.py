"""The matcher ``disk_lightglue`` as hloc loads it, as ``hloc.matchers.disk_lightglue``."""

from disk_hloc.models.matchers.disk_lightglue import DiskLightGlue

from ..utils.base_model import BaseModel


class DiskLightglue(BaseModel):
    """hloc's interface to :class:`disk_hloc.models.matchers.disk_lightglue.DiskLightGlue`."""

    default_conf = DiskLightGlue.default_conf
    required_inputs = DiskLightGlue.required_data_keys

    def _init(self, conf):
        self.model = DiskLightGlue({key: conf[key] for key in self.default_conf})

    def _forward(self, data):
        return self.model(data)
