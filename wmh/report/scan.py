"""One person's scan: lesions, their probability, regions, burden, a picture and a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wmh.analysis.look import overview
from wmh.analysis.style import save_png
from wmh.cohorts.plausible import say
from wmh.images import all_or_nothing, raise_unless_writable, save_image
from wmh.report.answer import Answer, Answerer
from wmh.report.likeness import training_scans
from wmh.report.page import write_report
from wmh.study import Study, write_table


def predict_scan(
    study: Study, out: Path, flair: Path | None = None, t1: Path | None = None
) -> list[Path]:
    """Predict one person's lesions and regions and write them to ``out``; return what was written.

    ``lesions.nii.gz``, ``probability.nii.gz`` and ``regions.nii.gz`` lie on the grid of the FLAIR,
    or of the T1 when it is alone. ``burden.csv`` holds lesion volumes (ml) per region,
    ``overview.png`` shows them and ``report.html`` lets you look closer. The originals are only
    read. What looks wrong with them is said on the terminal and on the page.
    """
    raise_unless_writable(out)
    given = {"FLAIR": flair, "T1": t1}
    given = {modality: path for modality, path in given.items() if path is not None}
    answer = Answerer(study).answer(given)
    say(answer.notices)
    with all_or_nothing(out) as fresh:
        written = _write(study, fresh, given, answer)
    return [out / path.name for path in written]


def _write(study: Study, out: Path, given: Mapping[str, Path], answer: Answer) -> list[Path]:
    write_table(answer.burden, out / "burden.csv")
    written = [
        save_image(out / "lesions.nii.gz", answer.lesions.data, answer.like),
        save_image(out / "probability.nii.gz", answer.probability, answer.like),
        save_image(out / "regions.nii.gz", answer.regions.data, answer.like),
        out / "burden.csv",
    ]
    note = f"model {answer.lesion_model.name} of study {study.name}, given {' and '.join(given)}"
    figure = overview(answer.images, answer.lesions, answer.regions, answer.burden, note)
    name = next(iter(given.values())).name.partition(".nii")[0]
    return [
        *written,
        save_png(figure, out / "overview.png"),
        write_report(out / "report.html", name, answer, training_scans(study), study),
    ]
