// What a reader who sees little, or nothing, or has no mouse, stumbles over: a list of sentences.
function stumblingBlocks() {
  const found = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const short = (element) => element.outerHTML.slice(0, 90).replace(/\s+/g, " ");
  const hidden = (element) =>
    element.closest("[aria-hidden=true]") || !element.checkVisibility({ checkVisibilityCSS: true });

  if (!document.documentElement.lang) found.push("no language");
  if (!document.title.trim()) found.push("no title");
  for (const name of ["h1", "main"]) {
    if (all(name).length !== 1) found.push(`${all(name).length} of ${name}`);
  }
  let level = 0;
  for (const heading of all("h1, h2, h3, h4, h5, h6")) {
    const own = Number(heading.tagName[1]);
    if (own > level + 1) found.push(`heading jumps from ${level} to ${own}: ${short(heading)}`);
    if (!heading.textContent.trim()) found.push(`empty heading: ${short(heading)}`);
    level = own;
  }

  for (const image of all("img")) {
    if (!image.hasAttribute("alt")) found.push(`no alt: ${short(image)}`);
  }
  for (const drawing of all("svg")) {
    const named = drawing.getAttribute("role") === "img" && drawing.getAttribute("aria-label");
    if (!hidden(drawing) && !named) found.push(`drawing without a name: ${short(drawing)}`);
  }
  for (const control of all("input, select, textarea")) {
    if (!control.labels.length && !control.getAttribute("aria-label")) {
      found.push(`no label: ${short(control)}`);
    }
  }
  for (const control of all("button, a[href]")) {
    const name = control.textContent.trim() || control.getAttribute("aria-label");
    if (!name) found.push(`no name: ${short(control)}`);
  }
  for (const heading of all("th")) {
    if (!heading.scope) found.push(`no scope: ${short(heading)}`);
  }
  for (const part of all("[role=region], nav")) {
    const named = part.getAttribute("aria-label") || part.getAttribute("aria-labelledby");
    if (!named) found.push(`region without a name: ${short(part)}`);
  }

  const seen = new Set();
  for (const element of all("[id]")) {
    if (seen.has(element.id)) found.push(`id twice: ${element.id}`);
    seen.add(element.id);
  }
  for (const name of ["aria-labelledby", "aria-describedby", "for"]) {
    for (const element of all(`[${name}]`)) {
      for (const id of element.getAttribute(name).split(/\s+/)) {
        if (!seen.has(id)) found.push(`${name} of ${id}, which is not there`);
      }
    }
  }
  for (const element of all("body *")) {
    const scrolls = /auto|scroll/.test(getComputedStyle(element).overflowX);
    if (scrolls && element.scrollWidth > element.clientWidth && element.tabIndex < 0) {
      found.push(`scrolls, and not by keyboard: ${short(element)}`);
    }
  }

  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const element = words.currentNode.parentElement;
    if (!words.currentNode.textContent.trim() || element.closest("svg, script, style, noscript")) {
      continue;
    }
    if (!element.checkVisibility({ checkVisibilityCSS: true })) continue;
    const style = getComputedStyle(element);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = contrast(rgb(style.color), paper(element));
    if (ratio < (large ? 3 : 4.5)) {
      found.push(`contrast ${ratio.toFixed(2)}: ${words.currentNode.textContent.trim().slice(0, 40)}`);
    }
  }
  return found;
}

// The first background behind an element that is not clear.
function paper(element) {
  for (let behind = element; behind; behind = behind.parentElement) {
    const colour = rgb(getComputedStyle(behind).backgroundColor);
    if (colour[3] > 0.99) return colour;
  }
  return [255, 255, 255, 1];
}

function rgb(text) {
  const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
  return [red, green, blue, alpha];
}

// Contrast ratio of two colours (WCAG 2.1).
function contrast(first, second) {
  const [bright, dark] = [first, second].map(luminance).sort((a, b) => b - a);
  return (bright + 0.05) / (dark + 0.05);
}

function luminance(colour) {
  const [red, green, blue] = colour.slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
