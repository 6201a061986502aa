"""The input configurations, in one table.

A configuration is a set of *views*. A view names the modality that each input channel shows, or
None for a blank channel. Training draws one view for each batch. Inference uses the views that the
given images can fill and that show the most modalities, and averages their probabilities.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MODALITIES = ("FLAIR", "T1")
"""Order of the modalities along the channel axis of slices."""

GIVEN = {"FLAIR": ("FLAIR",), "T1": ("T1",), "FLAIR+T1": ("FLAIR", "T1")}
"""Modalities that a model may be given, by their name in the tables."""

GIVEN_TITLES = {"FLAIR+T1": "FLAIR + T1", "FLAIR": "FLAIR only", "T1": "T1 only"}
"""Printed forms of these names, in the order in which they are shown."""

View = tuple[str | None, ...]


@dataclass(frozen=True)
class InputConfiguration:
    """How the modalities reach a network: its views, see the top of this module."""

    name: str
    title: str
    views: tuple[View, ...]
    fills_missing: bool = False
    """True if a missing modality may be replaced by an all-zero channel."""

    @property
    def channels(self) -> int:
        """Input channels of the network."""
        return len(self.views[0])

    def views_for(self, given: Collection[str]) -> tuple[View, ...]:
        """The views to predict and average for the given modalities; none if it cannot predict."""
        complete = tuple(view for view in self.views if shown(view) <= set(given))
        partial = tuple(view for view in self.views if shown(view) & set(given))
        able = complete or (partial if self.fills_missing else ())
        most = max((len(shown(view)) for view in able), default=0)
        return tuple(view for view in able if len(shown(view)) == most)

    @property
    def can_be_given(self) -> list[str]:
        """Names in ``GIVEN`` of the images that it can predict from and uses all of; most last."""
        seen = {name: set().union(*self.views_for(given)) for name, given in GIVEN.items()}
        return [name for name, given in GIVEN.items() if set(given) <= seen[name]]


CONFIGURATIONS = {
    configuration.name: configuration
    for configuration in (
        InputConfiguration("flair", "FLAIR only", (("FLAIR",),)),
        InputConfiguration("t1", "T1 only", (("T1",),)),
        InputConfiguration("flair_t1", "FLAIR and T1", (("FLAIR", "T1"),), fills_missing=True),
        InputConfiguration(
            "flair_t1_dropout",
            "FLAIR and T1, trained with modality dropout",
            (("FLAIR", "T1"), ("FLAIR", None), (None, "T1")),
        ),
        InputConfiguration("interchangeable", "Interchangeable", (("FLAIR",), ("T1",))),
    )
}


def shown(view: View) -> set[str]:
    """The modalities that a view shows."""
    return set(view) - {None}


def show(images: torch.Tensor, view: View, given: Collection[str] = MODALITIES) -> torch.Tensor:
    """Show a view of images (B, 2, ...) as (B, channels, ...), zeros where blank or not given."""
    import torch  # imported here, because figures and statistics use the tables above without it

    channels = [
        images[:, MODALITIES.index(modality)]
        if modality in given
        else torch.zeros_like(images[:, 0])
        for modality in view
    ]
    return torch.stack(channels, dim=1)
