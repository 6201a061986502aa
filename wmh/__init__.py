"""White matter lesion segmentation and localization from FLAIR and T1 MRI.

The package behind the numbered notebooks. Its rooms, from the ground up (a room imports only from
the floors below it): ``images`` and ``study``; ``atlas``; ``cohorts`` and ``analysis``;
``learning``; ``report`` and ``pipeline``; ``cli``.
"""

from importlib.metadata import version

__version__ = version("wmh")
