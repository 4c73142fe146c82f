"use strict";
const svg = (name, attributes, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

// A page from disk may not read the pixels of its images, but a filter may: where all three channels are those of the
// colour, their sum is 3, hence the alpha 1. There the mask is cut out, or gets lines.
const where = (colour) => {
  const tables = colour.match(/\d+/g).map((level, channel) => svg("feFunc" + "RGB"[channel], {
    type: "discrete", tableValues: Array.from({length: 256}, (_, value) => Number(value === Number(level))).join(" "),
  }));
  return [
    svg("feComponentTransfer", {in: "SourceGraphic"}, ...tables),
    svg("feColorMatrix", {values: "0 0 0 0 0  0 0 0 0 0  0 0 0 0 0  1 1 1 0 -2", result: "colour"}),
  ];
};
const cut = (colour, below, result) => [
  ...where(colour), svg("feComposite", {in: below, in2: "colour", operator: "out", result}),
];
const PERIOD = 7, RISING = `M-1 1 1 -1 M0 ${PERIOD} ${PERIOD} 0 M${PERIOD - 1} ${PERIOD + 1} ${PERIOD + 1} ${PERIOD - 1}`;
const FALLING = `M-1 ${PERIOD - 1} 1 ${PERIOD + 1} M0 0 ${PERIOD} ${PERIOD} M${PERIOD - 1} -1 ${PERIOD + 1} 1`;
const LINES = ["", RISING, FALLING, `${RISING} ${FALLING}`];  // as in hatching.py
const hatch = ({colour, ink, hatching}, below, result) => {
  const tile = `<svg xmlns="http://www.w3.org/2000/svg" width="${PERIOD}" height="${PERIOD}">`
    + `<path d="${LINES[hatching]}" stroke="${ink}" fill="none"/></svg>`;
  const size = {x: 0, y: 0, width: PERIOD, height: PERIOD};
  return [
    ...where(colour),
    svg("feImage", {href: `data:image/svg+xml,${encodeURIComponent(tile)}`, ...size, result: "tile"}),
    svg("feTile", {in: "tile", result: "lines"}),
    svg("feComposite", {in: "lines", in2: "colour", operator: "in", result: "hatched"}),
    svg("feComposite", {in: "hatched", in2: below, operator: "over", result}),
  ];
};

const gallery = document.querySelector(".gallery"), viewer = document.querySelector(".viewer");
const list = gallery.querySelector(".cards"), controls = gallery.querySelector(".controls");
const {sort, class: chosen, set: sets} = controls.elements;
const cards = [...list.children].map((element, order) => ({
  element, order, ranks: JSON.parse(element.dataset.ranks), image: element.querySelector(".image"),
}));
const legends = [...gallery.querySelectorAll(".legend")];
const current = () => Number(sets ? sets.value : 0);
let shown = cards;

const arrange = () => {
  const code = chosen.value, direction = Number(sort.value), among = chosen.selectedOptions[0].dataset.set;
  const {name} = legends[current()].dataset, rank = ({ranks}) => ranks[among ?? name]?.[code] ?? 0;
  cards.sort((a, b) => direction * (rank(a) - rank(b)) || a.order - b.order);
  shown = cards.filter(({ranks}) => name in ranks && (!code || code in (ranks[among] ?? {})));
  for (const card of cards) card.element.hidden = !shown.includes(card);
  list.append(...cards.map(({element}) => element));
  controls.querySelector("output").value = `${shown.length} of ${cards.length} images`;
};

// Each label set has a filter of its own, as one colour may be of two classes.
const filters = legends.map((_, i) => svg("filter", {
  id: `filter-${i}`, x: 0, y: 0, width: "100%", height: "100%", "color-interpolation-filters": "sRGB",
}));
document.body.append(svg("svg", {class: "filters", "aria-hidden": "true"}, ...filters));
const filter = (i) => {
  const boxes = [...legends[i].querySelectorAll("[type=checkbox]")];
  const steps = [
    ...boxes.filter((box) => !box.checked).map((box) => (...place) => cut(box.dataset.colour, ...place)),
    ...boxes.filter((box) => box.checked && box.dataset.hatching !== "0").map((box) => (...place) => hatch(box.dataset, ...place)),
  ];
  filters[i].replaceChildren(...steps.flatMap((step, n) => step(n ? `step${n - 1}` : "SourceGraphic", `step${n}`)));
  document.documentElement.style.setProperty(`--filter-${i}`, steps.length ? `url(#filter-${i})` : "none");
};
const masksOf = (i) => `.view[data-set="${i}"] .mask, .stage[data-set="${i}"] .mask { filter: var(--filter-${i}); }`;
document.head.append(Object.assign(document.createElement("style"), {textContent: legends.map((_, i) => masksOf(i)).join("\n")}));

legends.forEach((legend, i) => {
  const boxes = legend.querySelectorAll("[type=checkbox]");
  for (const box of boxes) box.addEventListener("change", () => filter(i));
  for (const button of legend.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      for (const box of boxes) box.checked = Boolean(button.value);
      filter(i);
    });
  }
  if (matchMedia("(max-width: 60rem)").matches) legend.open = false;
  filter(i);
});

const choose = () => {
  for (const part of gallery.querySelectorAll("[data-set]:not(option)")) part.hidden = Number(part.dataset.set) !== current();
  arrange();
};
controls.addEventListener("submit", (event) => event.preventDefault());
for (const control of [sort, chosen]) control.addEventListener("change", arrange);
for (const radio of controls.querySelectorAll("[name=set]")) radio.addEventListener("change", choose);

const fades = [controls.elements.fade, viewer.querySelector("[name=fade]")];
for (const fade of fades) {
  fade.addEventListener("input", () => {
    for (const other of fades) other.value = fade.value;
    document.documentElement.style.setProperty("--fade", fade.value / 100);
  });
  fade.addEventListener("pointerup", () => fade.blur());  // so that the arrow keys go on to other images
}

// The image below each mask is the card's, so that the page holds it once.
for (const {element, image} of cards) {
  if (!image) continue;
  for (const mask of element.querySelectorAll(".mask")) {
    mask.before(Object.assign(new Image(), {alt: "", loading: "lazy", src: image.src}));
  }
}

// --- The viewer: an image enlarged in place ---------------------------------------------------------------------------
const stage = viewer.querySelector(".stage"), [image, mask] = stage.children;
let at = 0, layer = 0;
const layersOf = ({element}) => [...element.querySelectorAll("figure")].filter((figure) => !figure.closest("[hidden]"));
const look = () => {
  const card = shown[at], layers = layersOf(card);
  layer = Math.max(0, Math.min(layer, layers.length - 1));
  const over = layers[layer].querySelector(".mask");
  viewer.querySelector("strong").textContent = card.element.querySelector("h3").textContent;
  viewer.querySelector(".place").textContent = `${at + 1} of ${shown.length}`;
  stage.dataset.set = current();
  image.hidden = !card.image;
  if (card.image) image.src = card.image.src;
  mask.hidden = !over;
  if (over) Object.assign(mask, {src: over.src, alt: over.alt});
  viewer.querySelector(".layers").replaceChildren(...layers.map((figure, number) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = figure.querySelector("figcaption").textContent;
    button.title = "Arrows up and down";
    button.ariaPressed = String(number === layer);
    button.addEventListener("click", () => { layer = number; look(); });
    return button;
  }));
  const about = card.element.querySelector(`.about[data-set="${current()}"]`);
  viewer.querySelector("aside").replaceChildren(...(about ? about.cloneNode(true).children : []));
  for (const details of viewer.querySelectorAll("aside details")) details.open = true;
};
const go = (images, layers = 0) => {
  const count = layersOf(shown[at]).length;
  at = (at + images + shown.length) % shown.length;
  layer = (layer + layers + count) % count;
  look();
};
list.addEventListener("click", (event) => {
  const panel = event.target.closest(".panel");
  if (!panel || event.ctrlKey || event.metaKey || event.shiftKey) return;  // these open the file
  event.preventDefault();
  at = shown.findIndex(({element}) => element.contains(panel));
  layer = layersOf(shown[at]).indexOf(panel.parentElement);
  look();
  viewer.showModal();
  stage.focus();
});
viewer.querySelector("[name=previous]").addEventListener("click", () => go(-1));
viewer.querySelector("[name=next]").addEventListener("click", () => go(1));
document.addEventListener("keydown", (event) => {
  const step = {ArrowLeft: [-1], ArrowRight: [1], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (!step || !viewer.open || event.target.type === "range") return;  // there the arrows fade
  event.preventDefault();
  go(...step);
});
viewer.addEventListener("close", () => shown[at].element.scrollIntoView({block: "nearest"}));
choose();
