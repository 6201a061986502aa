"""White matter lesion segmentation and localization from FLAIR and T1 MRI.

The package behind the numbered notebooks. Its parts, each of which imports only from those before
it: ``files``, ``study`` and ``images``; ``atlas``; ``cohorts``; ``phantom``, the simulated cohort;
``learning``; ``analysis``, numbers only; ``figures``; ``predict``, your own scans; ``pipeline``;
``cli``.
"""

from importlib.metadata import version

__version__ = version("wmh")
