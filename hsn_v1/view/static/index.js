// The index: all entries of a collection, with thumbnails and areas as bars. Only rows in sight are in the page.

import { $, address, css, debounced, el, fetchJSON, isCommand, pageOf, percent, stored } from "./dom.js";

const ROW = 112; // px, as in style.css
const SPARE = 4; // rows above and below those in sight
const RENEW = 10_000; // ms after which a run in progress is looked at again

const list = $("#list"), form = $("#controls"), count = $("#count");
let collection = "", data = { classes: {}, entries: [] }, shown = [], selected = -1, text = "";

// --- What there is ------------------------------------------------------------------------------------------------------

async function start() {
  const collections = await fetchJSON("/api/collections");
  const asked = new URLSearchParams(location.hash.slice(1));
  collection = collections.find(({ name }) => name === asked.get("in"))?.name ?? collections[0]?.name ?? "";
  $("#collections").replaceChildren(...collections.map(({ name, title }) =>
    el("a", { href: `#${new URLSearchParams({ in: name })}`, "aria-current": name === collection ? "page" : null }, title)));
  if (!collection) {
    count.textContent = "No results.";
    return;
  }
  form.elements.safe.checked = stored.get("safe", false);
  await load();
  restore(asked);
  arrange();
  if (asked.get("top")) scrollTo(0, Number(asked.get("top")));
}

/** Read the entries again; true if anything has changed. */
async function load() {
  const response = await fetch(address("/api/entries", { collection }));
  if (!response.ok) throw new Error(await response.text());
  const read = await response.text();
  if (read === text) return false;
  text = read;
  data = JSON.parse(read);
  const names = Object.keys(data.classes);
  options(form.elements.set, names.map((name) => [name, name]), form.elements.set.value || names[0]);
  offerClasses();
  return true;
}

function offerClasses() {
  const classes = data.classes[form.elements.set.value] ?? [], name = form.elements.set.value;
  const found = new Set(data.entries.flatMap(({ sets }) => Object.keys(sets[name]?.shares ?? {})));
  const scored = data.entries.some(({ sets }) => sets[name]?.iou);
  options(form.elements.class, [["", "any"], ...classes.filter(({ code }) => found.has(code)).map(({ code, name }) => [code, name])], form.elements.class.value);
  const chosen = classes.find(({ code }) => code === form.elements.class.value);
  options(form.elements.sort, [
    ...(scored ? [["worst", chosen ? `IoU of ${chosen.name}, worst first` : "mIoU, worst first"]] : []),
    ["name", "name"],
    ...(chosen ? [["most", `${chosen.name}, most first`], ["least", `${chosen.name}, least first`]] : []),
    ["status", "failures and notes first"],
  ], form.elements.sort.value);
}

function options(select, pairs, value) {
  select.replaceChildren(...pairs.map(([value, text]) => el("option", { value }, text)));
  if (pairs.some(([key]) => key === value)) select.value = value;
}

// --- Filter, sort, remember ---------------------------------------------------------------------------------------------

const shareOf = ({ sets }, name, code) => sets[name]?.shares[code] ?? 0;
const iouOf = ({ sets }, name, code) => sets[name]?.iou?.[code] ?? 2; // what has none comes last

function arrange() {
  const { search, set, least, sort } = form.elements, code = form.elements.class.value, name = set.value;
  const wanted = search.value.trim().toLowerCase();
  shown = data.entries.filter((entry) => entry.title.toLowerCase().includes(wanted)
    && (!code || (shareOf(entry, name, code) > 0 && 100 * shareOf(entry, name, code) >= Number(least.value))));
  const byName = (a, b) => a.title.localeCompare(b.title, "en", { numeric: true });
  const rank = ({ status, notes }) => ["failed", "stopped", "in progress", "done"].indexOf(status) * 2 + (notes.length ? 0 : 1);
  const orders = {
    name: () => 0,
    worst: (a, b) => iouOf(a, name, code) - iouOf(b, name, code),
    most: (a, b) => shareOf(b, name, code) - shareOf(a, name, code),
    least: (a, b) => shareOf(a, name, code) - shareOf(b, name, code),
    status: (a, b) => rank(a) - rank(b),
  };
  const order = orders[sort.value] ?? orders.name;
  shown.sort((a, b) => order(a, b) || byName(a, b));
  stored.set("order", shown.filter(({ opens }) => opens).map(({ id }) => id));
  const states = ["failed", "stopped", "in progress"].map((status) => [status, data.entries.filter((entry) => entry.status === status).length]);
  count.textContent = [`${shown.length} of ${data.entries.length}`, ...states.filter(([, n]) => n).map(([status, n]) => `${n} ${status}`)].join(" · ");
  form.elements.least.closest("label").hidden = !code;
  list.style.setProperty("height", `${shown.length * ROW}px`);
  list.replaceChildren();
  render();
}

const remember = debounced(() => {
  const query = new URLSearchParams({ in: collection });
  for (const key of ["search", "set", "class", "least", "sort"]) query.set(key, form.elements[key].value);
  query.set("top", Math.round(scrollY));
  history.replaceState(null, "", `#${query}`);
  stored.set("index", location.hash);
}, 200);

function restore(asked) {
  for (const key of ["search", "set", "class", "least", "sort"]) {
    if (key === "class" || key === "sort") offerClasses();
    const field = form.elements[key], value = asked.get(key);
    if (value !== null && (field.tagName !== "SELECT" || [...field.options].some((one) => one.value === value))) field.value = value;
  }
}

// --- Rows ---------------------------------------------------------------------------------------------------------------

function render() {
  const top = list.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(-top / ROW) - SPARE);
  const last = Math.min(shown.length, Math.ceil((innerHeight - top) / ROW) + SPARE);
  for (const row of [...list.children]) if (row.dataset.place < first || row.dataset.place >= last) row.remove();
  const there = new Set([...list.children].map((row) => Number(row.dataset.place)));
  for (let place = first; place < last; place++) if (!there.has(place)) list.append(rowOf(shown[place], place));
  for (const row of list.children) row.classList.toggle("selected", Number(row.dataset.place) === selected);
}

function rowOf(entry, place) {
  const name = form.elements.set.value, set = entry.sets[name], first = set ? name : Object.keys(entry.sets)[0];
  const link = entry.opens ? `${pageOf(entry.id)}${first ? `#${new URLSearchParams({ set: first })}` : ""}` : null;
  const query = { id: entry.id, palette: form.elements.safe.checked ? "safe" : "published", ...(first ? { set: first } : {}) };
  const size = entry.width ? `${entry.width.toLocaleString("en")} × ${entry.height.toLocaleString("en")} px` : "";
  const facts = [size, entry.mpp ? `${entry.mpp.toPrecision(3)} µm/px` : "", entry.status === "done" ? "" : entry.status];
  const remark = entry.reason || entry.notes.join(" · ");
  return el("a", { className: `row ${entry.status === "failed" ? "failed" : ""}`, href: link, "data-place": place, style: { top: `${place * ROW}px` } },
    el("div", { className: "thumbnail" }, entry.status === "failed" && !first ? null : el("img", { src: address("/thumbnail", query), alt: "", onerror: (event) => event.target.remove() })),
    el("div", { className: "text" },
      el("h2", {}, entry.title),
      el("p", { className: "quiet" }, facts.filter(Boolean).join(" · ")),
      remark && el("p", { className: "remark", title: remark }, remark)),
    el("div", { className: "measures" }, set ? bar(set, data.classes[name]) : null),
    set?.iou && el("div", { className: "score", title: "mIoU over the classes of the ground truth" },
      (iouOf(entry, name, form.elements.class.value) <= 1 ? iouOf(entry, name, form.elements.class.value) : set.iou[""]).toFixed(2)));
}

/** Areas as a bar, and the largest in words. */
function bar({ shares }, classes) {
  const found = classes.filter(({ code }) => shares[code]).sort((a, b) => shares[b.code] - shares[a.code]);
  const colour = (one) => css(form.elements.safe.checked ? one.safe : one.published);
  const words = found.slice(0, 3).map((one) => el("span", {}, el("i", { className: "swatch", style: { background: colour(one) } }), `${one.name} ${percent(shares[one.code])} %`));
  return [
    el("div", { className: "bar" }, found.map((one) => el("i", {
      title: `${one.name}, ${percent(shares[one.code])} %`, style: { background: colour(one), width: `${100 * shares[one.code]}%` },
    }))),
    el("p", { className: "quiet words" }, words),
  ];
}

// --- Events -------------------------------------------------------------------------------------------------------------

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", (event) => {
  if (event.target.name === "set" || event.target.name === "class") offerClasses();
  stored.set("safe", form.elements.safe.checked);
  selected = -1;
  arrange();
  remember();
});
addEventListener("scroll", () => { render(); remember(); }, { passive: true });
addEventListener("resize", render);
addEventListener("hashchange", () => {
  if (new URLSearchParams(location.hash.slice(1)).get("in") !== collection) location.reload();
});
addEventListener("keydown", (event) => {
  if (isCommand(event) || event.target.matches("input, select")) return;
  const steps = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };
  if (event.key === "/") form.elements.search.focus();
  else if (event.key === "p") form.elements.safe.click();
  else if (event.key === "Enter" && selected >= 0) list.querySelector(".selected")?.click();
  else if (event.key in steps) {
    selected = Math.min(shown.length - 1, Math.max(0, selected + steps[event.key]));
    const top = list.offsetTop + selected * ROW;
    if (top < scrollY || top + ROW > scrollY + innerHeight) scrollTo(0, top - innerHeight / 2);
    render();
  } else return;
  event.preventDefault();
});
setInterval(async () => {
  if (document.hidden || !collection) return;
  try {
    if (await load()) arrange();
  } catch (error) {
    count.textContent = error.message === "Failed to fetch" ? "The server does not answer: start hsn-v1 view again." : error.message;
  }
}, RENEW);

try {
  await start();
} catch (error) {
  count.textContent = `Cannot be shown: ${error.message}`;
}
