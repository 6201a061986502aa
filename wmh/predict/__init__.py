"""Prediction of one scan or a folder of scans: lesions, regions, burden and a report page."""
