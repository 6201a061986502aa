"use strict";
// Scroll through the slices: pictures, outlines and regions of the slice that the slider names.
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (selector) => [...document.querySelectorAll(selector)];
  const [slider, where] = [document.getElementById("slice"), document.getElementById("where")];
  const last = data.outlines.length - 1;

  const address = (content) => "data:image/webp;base64," + content;

  function show() {
    const at = Number(slider.value);
    const number = data.first + at;
    const lesion = data.lesion_ml[at].toFixed(2) + " ml of lesion";
    const regions = document.getElementById("show-regions").checked && data.regions[at];
    const lesions = document.getElementById("show-lesions").checked;
    for (const image of find(".scan")) {
      const modality = image.dataset.modality;
      image.src = address(data.pictures[modality][at]);
      image.alt = `${modality}, axial slice ${number}, ${lesion}${lesions ? " outlined" : ""}`;
    }
    for (const image of find(".regions")) {
      image.hidden = !regions;
      if (regions) image.src = address(regions);
    }
    for (const path of find(".outline path")) {
      path.setAttribute("d", lesions ? data.outlines[at] : "");
    }
    where.textContent = `${number} of ${data.first} to ${data.first + last}, ${lesion}`;
    slider.setAttribute("aria-valuetext", `Slice ${number}, ${lesion}`);
  }

  function toLesion(step) {
    let at = Number(slider.value) + step;
    while (at >= 0 && at <= last && !data.outlines[at]) at += step;
    if (at >= 0 && at <= last) slider.value = at;
    show();
  }

  slider.addEventListener("input", show);
  for (const id of ["show-lesions", "show-regions"]) {
    document.getElementById(id).addEventListener("change", show);
  }
  document.getElementById("previous").addEventListener("click", () => toLesion(-1));
  document.getElementById("next").addEventListener("click", () => toLesion(1));
  show();
}
