// The page of a slide or image: panes, panel, keys and link, held together by one state.

import { $, css, debounced, el, fetchJSON, length, pageOf, roundLength, stored } from "./dom.js";
import { installKeys } from "./keys.js";
import { Pane } from "./pane.js";
import { ordered, Panel } from "./panel.js";
import { compose, download, legendOf } from "./snapshot.js";
import { fromFragment, State, toFragment } from "./state.js";

const GEOMETRY = { tile: 510, overlap: 1 };
const PAN = 0.2; // share of the view that an arrow key moves by

/** Whether a layer is a map of one class: "cam:CODE", its Grad-CAM, or "map:CODE", that map adjusted. */
const isMap = (key) => key.includes(":");

const id = location.pathname.replace(/^\/slide\//, "").split("/").map(decodeURIComponent).join("/");
const toast = $("#toast"), tip = $("#tip");

function complain(text) {
  toast.textContent = text;
  toast.hidden = false;
  clearTimeout(complain.timer);
  complain.timer = setTimeout(() => { toast.hidden = true; }, 8000);
}

class SlidePage {
  constructor(entry) {
    this.entry = entry;
    const first = entry.sets[0];
    const values = { set: first?.name ?? "", layer: first?.layers[0]?.key ?? "", safe: stored.get("safe", false) };
    this.state = new State({ ...values, ...fit(fromFragment(location.hash, entry.sets), entry, values) });
    const events = {
      moved: (pane) => this.moved(pane),
      settled: () => this.keepLink(),
      led: (pane) => { this.leader = pane; },
      hovered: (...place) => this.hover(...place),
      complain,
    };
    this.events = events;
    this.left = this.leader = new Pane($("#left"), entry, GEOMETRY, events);
    this.right = null;
    this.bar = el("div", { className: "scale", "aria-label": "Scale" });
    $("#left").append(this.bar);
    this.panel = new Panel($("#panel"), entry, this.state, {
      chooseSet: (name) => this.chooseSet(name),
      comparable: () => this.comparable(),
      only: (set, code) => this.only(set, code),
      snapshot: () => this.snapshot(),
      link: () => this.copyLink(),
    });
    this.leaving = false;
    this.keepLink = debounced(() => this.writeLink(), 200);
    this.state.listen((values, changed) => this.apply(changed));
  }

  async open() {
    await this.left.opened();
    if (this.state.values.view) this.left.look(this.state.values.view);
    this.apply(new Set(["set", "compare"]));
    addEventListener("hashchange", () => this.readLink());
    // To write the link while another page is on its way would call that off; so it is written before.
    document.addEventListener("click", (event) => {
      if (!event.target.closest("a[href]:not([download])")) return;
      this.writeLink();
      this.leaving = true;
    }, true);
    addEventListener("pageshow", () => { this.leaving = false; });
  }

  set(name) {
    return this.entry.sets.find((one) => one.name === name);
  }

  // --- State to pictures ----------------------------------------------------------------------------------------------

  apply(changed) {
    const { values } = this.state;
    if (changed.has("set") || changed.has("layer")) this.score();
    if (changed.has("compare")) this.split();
    this.show(this.left, values.set, values.layer);
    if (this.right) this.show(this.right, ...values.compare.split("|"));
    stored.set("safe", values.safe);
    this.keepLink();
  }

  show(pane, setName, key) {
    const set = this.set(setName), layer = set?.layers.find((one) => one.key === key);
    if (layer?.problem) complain(`${layer.title}: ${layer.problem}`);
    pane.show(setName, layer && !layer.problem ? layer : null);
    const { values } = this.state;
    if (set) pane.paint(colours(set, key, values), values.outline && !isMap(key), values.mask ? values.fade : 0);
  }

  split() {
    const { compare } = this.state.values, element = $("#right");
    element.hidden = !compare;
    if (compare && !this.right) {
      this.right = new Pane(element, this.entry, GEOMETRY, this.events);
      this.right.opened().then(() => {
        this.right.follow(this.left);
        this.show(this.right, ...this.state.values.compare.split("|"));
      });
    }
    if (!compare && this.right) {
      this.right.viewer.destroy();
      element.replaceChildren();
      this.right = null;
      this.leader = this.left;
    }
  }

  moved(pane) {
    const other = pane === this.left ? this.right : this.left;
    if (other?.isOpen && pane === this.leader) other.follow(pane);
    else if (other?.isOpen) pane.follow(this.leader); // after a resize, each comes to a scale of its own
    if (pane === this.left) this.drawScale();
  }

  drawScale() {
    const { mpp } = this.entry;
    this.bar.hidden = !mpp;
    if (!mpp || !this.left.isOpen) return;
    const { scale } = this.left.place, microns = roundLength(160 * mpp / scale);
    this.bar.textContent = length(microns);
    this.bar.style.width = `${microns / mpp * scale}px`;
  }

  async score() {
    const { set: name, layer: key } = this.state.values, set = this.set(name);
    if (!set?.layers.some((one) => one.key === "truth") || key === "truth" || isMap(key)) return;
    this.asked = `${name} ${key}`;
    await this.settled(3000); // pictures first
    try {
      const score = await fetchJSON("/api/score", { id: this.entry.id, set: name, layer: key });
      if (this.asked === `${name} ${key}`) this.panel.setScore(name, key, score);
    } catch (error) {
      this.panel.setScore(name, key, { error: error.message });
    }
  }

  /** Wait until all that is to be seen has come, but no longer than some milliseconds. */
  async settled(most) {
    for (const end = Date.now() + most; Date.now() < end && !this.idle;) await new Promise((resolve) => setTimeout(resolve, 50));
  }

  get idle() {
    return this.left.idle && (!this.right || this.right.idle);
  }

  async hover(pane, x, y, event) {
    this.hovered = event;
    const set = this.set(pane.current?.setName);
    if (!event || !set || !pane.current) {
      tip.hidden = true;
      return;
    }
    const { key } = pane.current.layer, value = await pane.current.valueAt(x, y);
    if (this.hovered !== event) return; // the cursor is elsewhere by now
    tip.hidden = value === null;
    if (value === null) return;
    const one = isMap(key) ? null : set.classes[value];
    const text = isMap(key) ? `${(value / 255).toFixed(2)}` : one?.name ?? (key === "truth" ? "not annotated" : "no tissue");
    const colour = one && (this.state.values.safe ? one.safe : one.published);
    tip.replaceChildren(...(colour ? [el("i", { className: "swatch", style: { background: css(colour) } })] : []), text);
    const stage = $("#stage").getBoundingClientRect();
    const left = Math.min(event.clientX - stage.left + 16, stage.width - tip.offsetWidth - 8);
    tip.style.transform = `translate(${left}px, ${Math.min(event.clientY - stage.top + 18, stage.height - 40)}px)`;
  }

  // --- Actions ----------------------------------------------------------------------------------------------------------

  chooseSet(name) {
    const set = this.set(name), { layer } = this.state.values;
    const same = set.layers.some(({ key }) => key === layer);
    this.state.set({ set: name, layer: same ? layer : set.layers[0]?.key ?? "" });
  }

  step(list, current, by) {
    return list[(list.indexOf(current) + by + list.length) % list.length];
  }

  /** Step through the stages in their order; of a class that is shown alone, from its maps to its mask. */
  stepLayer(by) {
    const { set: name, layer } = this.state.values, set = this.set(name), on = set?.classes.filter(({ code }) => !this.state.values.off.has(`${name}/${code}`));
    const has = (key) => set?.layers.some((one) => one.key === key);
    const maps = on?.length === 1 ? ["cam", "map"].map((kind) => `${kind}:${on[0].code}`) : [];
    const steps = [has(maps[0]) ? maps[0] : "GradCAM", maps[1], "Adjust", "CRF", "labels", "truth"].filter(has);
    if (steps.length) this.state.set({ layer: steps.includes(layer) ? this.step(steps, layer, by) : steps[0] });
  }

  stepSet(by) {
    const names = this.entry.sets.map(({ name }) => name);
    if (names.length) this.chooseSet(this.step(names, this.state.values.set, by));
  }

  comparable() {
    const { set: chosen, layer } = this.state.values;
    return this.entry.sets.flatMap(({ name, layers }) => layers
      .filter(({ key }) => name !== chosen || key !== layer)
      .map(({ key, title }) => [`${name}|${key}`, name === chosen ? title : `${name}, ${title}`]));
  }

  toggleCompare() {
    const options = this.comparable(), truth = options.find(([key]) => key === `${this.state.values.set}|truth`);
    this.state.set({ compare: this.state.values.compare ? "" : (truth ?? options[0] ?? [""])[0] });
  }

  /** Only this class; or all again, if it is the only one already. */
  only(set, code) {
    const off = new Set([...this.state.values.off].filter((one) => !one.startsWith(`${set.name}/`)));
    const others = set.classes.filter((one) => one.code !== code).map((one) => `${set.name}/${one.code}`);
    const alone = others.every((one) => this.state.values.off.has(one));
    if (!alone) for (const one of others) off.add(one);
    const { layer } = this.state.values, own = `${layer.split(":")[0]}:${code}`; // a map's place is taken by this class's
    const follows = isMap(layer) && set.name === this.state.values.set && set.layers.some(({ key }) => key === own);
    this.state.set({ off, layer: follows ? own : layer });
  }

  key(digit, alone) {
    const set = this.set(this.state.values.set), one = set && ordered(set, this.panel.scores[set.name]?.pixels).present[digit - 1];
    if (!one) return;
    if (alone) this.only(set, one.code);
    else this.state.switch(set.name, [one.code], this.state.values.off.has(`${set.name}/${one.code}`));
  }

  all(on) {
    const set = this.set(this.state.values.set);
    if (set) this.state.switch(set.name, set.classes.map(({ code }) => code), on);
  }

  fade(by) {
    this.state.set({ fade: Math.min(1, Math.max(0, Math.round(10 * (this.state.values.fade + by)) / 10)), mask: true });
  }

  async snapshot() {
    const { values } = this.state, panes = [this.left, ...(this.right ? [this.right] : [])];
    const names = [[values.set, values.layer], ...(this.right ? [values.compare.split("|")] : [])];
    const captions = names.map(([name, key]) => [name, this.set(name)?.layers.find((one) => one.key === key)?.title].filter(Boolean).join(", "));
    const sets = [...new Set(names.map(([name]) => this.set(name)))].filter(Boolean);
    const legends = values.mask ? sets.map((set) => legendOf(set, values)) : [];
    await download(compose(this.entry, panes, captions, legends, values), `${this.entry.title}_${values.set}.png`);
  }

  writeLink() {
    if (this.leaving) return;
    if (this.left.isOpen) this.state.values.view = this.left.view;
    const fragment = toFragment(this.state.values, this.entry.sets);
    this.written = `#${fragment}`;
    if (location.hash !== this.written) history.replaceState(null, "", this.written);
  }

  readLink() {
    if (location.hash === this.written) return;
    const read = fromFragment(location.hash, this.entry.sets);
    this.state.set(fit({ fade: 0.6, compare: "", ...read }, this.entry, this.state.values));
    if (read.view) this.left.look(read.view);
  }

  async copyLink() {
    this.writeLink();
    try {
      await navigator.clipboard.writeText(location.href);
      complain("Link copied.");
    } catch {
      complain(location.href);
    }
  }
}

/** Drop what a link names and the entry does not have. */
function fit(read, entry, fallback) {
  const set = entry.sets.find(({ name }) => name === (read.set ?? fallback.set));
  const has = (one, key) => one?.layers.some((layer) => layer.key === key);
  if (!has(set, read.layer)) read.layer = set?.layers[0]?.key ?? "";
  const [name, key] = (read.compare ?? "").split("|");
  if (!has(entry.sets.find((one) => one.name === name), key)) read.compare = "";
  return read;
}

/** RGBA for each value of a tile: classes in their colours; a map's value as opacity, its root since many are low. */
function colours(set, key, values) {
  const table = new Uint8ClampedArray(4 * 256), mapped = isMap(key) ? key.split(":")[1] : "";
  const colour = (one) => (values.safe ? one.safe : one.published);
  if (mapped) {
    const shade = colour(set.classes.find(({ code }) => code === mapped));
    for (let value = 0; value < 256; value++) table.set([...shade, Math.sqrt(255 * value)], 4 * value);
  } else {
    set.classes.forEach((one, index) => table.set([...colour(one), values.off.has(`${set.name}/${one.code}`) ? 0 : 255], 4 * index));
  }
  return table;
}

function keysOf(page, steps) {
  const { state } = page, flip = (name) => state.set({ [name]: !state.values[name] });
  const digits = [1, 2, 3, 4, 5, 6, 7, 8, 9];
  const lead = () => { page.leader = page.left; return page.left; };
  return [
    [["+", "="], "nearer", () => lead().zoom(1.5)],
    [["-"], "farther", () => lead().zoom(1 / 1.5)],
    [["ArrowLeft"], "", () => lead().pan(-PAN, 0)],
    [["ArrowRight"], "", () => lead().pan(PAN, 0)],
    [["ArrowUp"], "", () => lead().pan(0, -PAN)],
    [["ArrowDown"], "", () => lead().pan(0, PAN)],
    [["←", "→", "↑", "↓"], "move", () => {}],
    [["0"], "whole slide", () => lead().home()],
    [["f"], "full resolution", () => lead().fullResolution()],
    [["[", "]"], "fade the mask", (key) => page.fade(key === "[" ? -0.1 : 0.1)],
    [["m"], "mask on or off", () => flip("mask")],
    [["o"], "outlines or fill", () => flip("outline")],
    [digits.map(String), "class on or off, in the order of the list", (key) => page.key(Number(key), false)],
    [digits.map((digit) => `shift ${digit}`), "only this class, or all again", (key) => page.key(Number(key.slice(-1)), true)],
    [["a", "n"], "all classes, none", (key) => page.all(key === "a")],
    [["t", "T"], "next label set, previous", (key) => page.stepSet(key === "t" ? 1 : -1)],
    [[",", "."], "previous layer, next", (key) => page.stepLayer(key === "." ? 1 : -1)],
    [["c"], "side by side, with ground truth where there is one", () => page.toggleCompare()],
    [["p"], "colours for colour-blind readers", () => flip("safe")],
    [["s"], "save a picture", () => page.snapshot()],
    [["l"], "copy a link to this view", () => page.copyLink()],
    [["k", "j"], "previous, next", (key) => steps[key]?.click()],
    [["i"], "all results", () => $("#back").click()],
    [["h", "?"], "this list", () => $("#keys").showModal()],
  ];
}

function header(entry) {
  document.title = `${entry.title} · hsn_v1`;
  $("#title").textContent = entry.title;
  const facts = [`${entry.width.toLocaleString("en")} × ${entry.height.toLocaleString("en")} px`, entry.mpp && `${entry.mpp.toPrecision(3)} µm/px`];
  $("#facts").textContent = facts.filter(Boolean).join(" · ");
}

/** Link the entries before and after, in the index's order. */
async function neighbours(entry, steps) {
  let order = stored.get("order", []);
  if (!order.includes(entry.id)) {
    const collection = entry.id.includes("/") ? entry.id.replace(/\/[^/]*$/, "") : ".";
    order = (await fetchJSON("/api/entries", { collection })).entries.map(({ id }) => id);
  }
  const place = order.indexOf(entry.id);
  for (const [key, at] of [["k", place - 1], ["j", place + 1]]) if (order[at]) steps[key].href = pageOf(order[at]);
  const index = stored.get("index", "");
  $("#back").href = `/${index}`;
}

try {
  const entry = await fetchJSON("/api/entry", { id });
  header(entry);
  const steps = { k: $("#previous"), j: $("#next") }, page = new SlidePage(entry);
  installKeys(keysOf(page, steps), $("#keys"));
  $("#help").addEventListener("click", () => $("#keys").showModal());
  await page.open();
  page.settled(3000).then(() => neighbours(entry, steps)).catch(() => {});
  window.viewed = page; // for tests, and for those who look
} catch (error) {
  $("#title").textContent = id;
  $("#panel").replaceChildren(el("p", { className: "notes" }, `Cannot be shown: ${error.message}`));
}
