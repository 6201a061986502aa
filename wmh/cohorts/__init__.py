"""The subjects: their sources, checks of their images, and the cohort table."""
