"""The extractor ``disk`` as hloc loads it: this file becomes ``hloc.extractors.disk``."""

from disk_hloc.models.extractors.disk import DISK as DISKModel

from ..utils.base_model import BaseModel


class DISK(BaseModel):
    """hloc's interface to :class:`disk_hloc.models.extractors.disk.DISK`."""

    default_conf = DISKModel.default_conf
    required_inputs = DISKModel.required_data_keys

    def _init(self, conf):
        self.model = DISKModel({key: conf[key] for key in self.default_conf})

    def _forward(self, data):
        prediction = self.model(data)
        # Some of hloc's matchers ask for the scores by this name.
        return {**prediction, "scores": prediction["keypoint_scores"]}
