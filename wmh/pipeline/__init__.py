"""Running a study: its stages and their order, the record of each, and the study's page."""
