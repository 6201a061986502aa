"""A subject's page: ``report.html``, in one file that opens without a network."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pandas as pd

from wmh.atlas.regions import REST_LABELS
from wmh.images import Image
from wmh.learning.models import Model
from wmh.pages import write_page
from wmh.predict.answer import Answer, Answerer
from wmh.predict.brain_map import frame_mm, paint, scale_top, shades
from wmh.predict.likeness import compare_scan
from wmh.predict.slices import slices_of
from wmh.provenance import commit_here


def write_report(
    path: Path, name: str, answer: Answer, training: pd.DataFrame | None, answerer: Answerer
) -> Path:
    """Write a subject's page.

    ``training`` describes the scans the models were trained on
    (:func:`wmh.predict.likeness.training_scans`); None when they are not known.
    """
    percent = answer.burden.set_index("region")["percent_of_region"].drop(list(REST_LABELS))
    values = percent.to_dict()
    quantities = [] if training is None else compare_scan(answer.originals, training)
    return write_page(
        path,
        "report.html",
        name=name,
        simulated=answerer.simulated,
        general=answerer.general,
        answer=answer,
        slices=slices_of(answer),
        cuts=paint(values, "% of the region"),
        frame=frame_mm(),
        shades=shades(scale_top(values)),
        regions=answer.burden.to_dict("records"),
        quantities=quantities,
        notices=answer.notices,
        warnings=[quantity.unlike for quantity in quantities if quantity.unlike],
        given=[_image_facts(modality, image) for modality, image in answer.originals.items()],
        models=_models(answer),
        version=version("wmh"),
        **commit_here(),
    )


def _models(answer: Answer) -> list[dict[str, object]]:
    if answer.lesion_model is answer.region_model:
        return [_model_facts("Lesions and regions", answer.lesion_model, answer.originals)]
    return [
        _model_facts("Lesions", answer.lesion_model, answer.originals),
        _model_facts("Regions", answer.region_model, answer.originals),
    ]


def _image_facts(modality: str, image: Image) -> dict[str, str]:
    return {
        "modality": modality,
        "file": image.path.name,
        "grid": " × ".join(map(str, image.data.shape)),
        "voxel": " × ".join(f"{size:.3g}" for size in image.voxel_size),
        "axes": image.orientation,
    }


def _model_facts(task: str, model: Model, given: dict[str, Image]) -> dict[str, object]:
    seen = model.configuration.views_for(given)
    views = [" and ".join(modality for modality in view if modality) for view in seen]
    return {
        "task": task,
        "name": model.name,
        "title": model.configuration.title,
        "study": model.study,
        "step": model.step,
        "voxel_size_mm": model.voxel_size_mm,
        "slice_thickness_mm": model.slice_thickness_mm,
        "views": ", then ".join(views),
        "averaged": len(views) > 1,
        "networks": len(model.networks),
        "versions": model.versions,
        "commit": model.commit,
        "dirty": model.dirty,
    }
