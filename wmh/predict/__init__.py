"""One person's scan, or a folder of them: lesions, regions, burden and a page to read."""

from wmh.predict.folder import predict_folder
from wmh.predict.scan import predict_scan

__all__ = ["predict_folder", "predict_scan"]
