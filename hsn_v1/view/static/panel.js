// The side panel: label sets, layers, fade, classes with their areas, and what there is to know.

import { address, area, counted, css, el, percent } from "./dom.js";

export class Panel {
  /** `actions` has what the buttons do: see slide.js. */
  constructor(element, entry, state, actions) {
    Object.assign(this, { element, entry, state, actions, scores: {} });
    this.build();
    state.listen(() => this.update());
  }

  get set() {
    return this.entry.sets.find(({ name }) => name === this.state.values.set);
  }

  build() {
    const { entry, state, actions } = this;
    this.tabs = el("div", { className: "tabs", role: "tablist", "aria-label": "Label sets" }, entry.sets.map(({ name }) =>
      el("button", { type: "button", role: "tab", "data-set": name, onclick: () => actions.chooseSet(name) }, name)));
    this.layers = el("select", { "aria-label": "Layer", onchange: () => state.set({ layer: this.layers.value }) });
    this.compare = el("select", { "aria-label": "Compare with", onchange: () => state.set({ compare: this.compare.value }) });
    this.fade = el("input", {
      type: "range", min: 0, max: 100, "aria-label": "Opacity in percent", oninput: () => state.set({ fade: this.fade.value / 100, mask: true }),
    });
    this.outline = el("input", { type: "checkbox", onchange: () => state.set({ outline: this.outline.checked }) });
    this.safe = el("input", { type: "checkbox", onchange: () => state.set({ safe: this.safe.checked }) });
    this.legend = el("div", { className: "legend" });
    const button = (text, title, onclick) => el("button", { type: "button", title, onclick }, text);
    this.element.replaceChildren(
      el("div", { className: "settings" },
        entry.sets.length ? this.tabs : el("p", { className: "quiet" }, "Nothing segmented yet."),
        el("label", { className: "line", title: "Stages and maps (, and .)" }, el("span", {}, "Layer"), this.layers),
        el("label", { className: "line", title: "[ and ]; m hides" }, el("span", {}, "Opacity"), this.fade),
        el("label", { className: "line", title: "Side by side (c)" }, el("span", {}, "Compare"), this.compare),
        el("div", { className: "checks" },
          el("label", { className: "check", title: "o" }, this.outline, "Outlines"),
          el("label", { className: "check", title: "p" }, this.safe, "Colour-blind safe")),
      ),
      this.legend,
      el("div", { className: "actions" },
        button("Save picture", "With legend and scale bar (s)", actions.snapshot),
        button("Copy link", "Reopens this very view (l)", actions.link)),
      this.facts(),
    );
    this.update();
  }

  facts() {
    const { entry } = this;
    const states = { "in progress": "Still being segmented.", stopped: "Not finished." };
    const lines = [entry.problem, states[entry.status], entry.reason, ...entry.notes];
    const href = address("/card", { id: entry.id });
    const card = entry.card && el("p", {}, el("a", { href, target: "_blank" }, "Model card"));
    return el("div", { className: "notes quiet" }, card, lines.filter(Boolean).map((line) => el("p", {}, line)));
  }

  update() {
    const { values } = this.state, { set } = this;
    for (const tab of this.tabs.children) tab.setAttribute("aria-selected", tab.dataset.set === values.set);
    this.fade.value = Math.round(100 * values.fade);
    this.fade.disabled = !values.mask;
    this.outline.checked = values.outline;
    this.safe.checked = values.safe;
    if (!set) return;
    options(this.layers, set.layers.map(({ key, title }) => [key, title]), values.layer);
    this.layers.closest("label").hidden = set.layers.length < 2;
    options(this.compare, [["", "with nothing"], ...this.actions.comparable()], values.compare);
    const right = this.entry.sets.find(({ name }) => values.compare.startsWith(`${name}|`));
    const focused = document.activeElement?.dataset?.focus;
    this.legend.replaceChildren(...this.classes(set), ...(right && right !== set ? this.classes(right) : []));
    if (focused) this.legend.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
  }

  /** A set's classes: those that occur, largest first, and the others folded away. */
  classes(set) {
    const { values } = this.state, score = this.scoreOf(set);
    const { present, absent } = ordered(set, score?.pixels);
    const heading = el("div", { className: "heading" },
      el("h2", {}, `Classes of ${set.name}`),
      el("span", {},
        this.button("all", `${set.name} all`, () => this.state.switch(set.name, set.classes.map(({ code }) => code), true)),
        this.button("none", `${set.name} none`, () => this.state.switch(set.name, set.classes.map(({ code }) => code), false))));
    const iou = score?.iou;
    const table = el("table", {},
      el("thead", {}, el("tr", {}, el("th", {}, "class"), el("th", { className: "number" }, "area"),
        el("th", { className: "number", title: "share of the tissue" }, "%"), iou && el("th", { className: "number" }, "IoU"), el("td"))),
      el("tbody", {}, present.map((one, place) => this.row(set, one, place, iou))));
    const rest = absent.length ? el("details", {}, el("summary", { className: "quiet" }, `${counted(absent.length, "class", "classes")} not found here`),
      el("p", { className: "quiet" }, absent.map(({ name }) => name).join(", "))) : null;
    return [heading, table, rest, this.summary(set, score)].filter(Boolean);
  }

  row(set, one, place, iou) {
    const { values } = this.state, { code, name } = one, found = set.areas[code];
    const on = !values.off.has(`${set.name}/${code}`);
    const box = el("input", {
      type: "checkbox", checked: on, "data-focus": `${set.name}/${code}`, "data-code": code,
      onchange: () => this.state.switch(set.name, [code], box.checked),
    });
    const swatch = el("i", { className: "swatch", style: { background: css(values.safe ? one.safe : one.published) } });
    return el("tr", { className: on ? "" : "off" },
      el("td", {}, el("label", { title: place < 9 ? `${code}: key ${place + 1}` : code }, box, swatch, el("span", {}, name))),
      el("td", { className: "number" }, area(found?.mm2)),
      el("td", { className: "number" }, found?.share ? percent(found.share) : ""),
      iou && el("td", { className: "number" }, iou[code] === undefined ? "" : iou[code].toFixed(2)),
      el("td", {}, this.button("only", `${set.name}/${code} only`, () => this.actions.only(set, code), `Only ${name}`)));
  }

  button(text, focus, onclick, title) {
    return el("button", { type: "button", className: "small", "data-focus": focus, title, "aria-label": title, onclick }, text);
  }

  summary(set, score) {
    if (!score) return null;
    if (score.error) return el("p", { className: "quiet" }, `Ground truth: ${score.error}`);
    if (score.miou === null) return el("p", { className: "quiet" }, "The ground truth has none of these classes here.");
    return el("div", { className: "quiet score" },
      el("p", {}, `Inside the annotated regions: mIoU ${score.miou.toFixed(2)} over ${counted(Object.keys(score.pixels).length, "class", "classes")}; ` +
        `${percent(score.correct)} % of the pixels are right.`),
      score.notes.map((note) => el("p", {}, note)));
  }

  setScore(name, layer, score) {
    this.scores[name] = { ...score, layer };
    this.update();
  }

  /** The score of what is shown, as far as it is known. */
  scoreOf(set) {
    const score = this.scores[set.name], { values } = this.state;
    return score && (set.name !== values.set || score.layer === values.layer) ? score : null;
  }
}

/** Classes that occur in the label map or in the ground truth, largest first, background and other last; and the rest. */
export function ordered(set, truth = {}) {
  const pixels = ({ code }) => set.areas[code]?.pixels ?? 0;
  const known = Object.keys(set.areas).length > 0;
  const present = set.classes.filter((one) => !known || pixels(one) || truth?.[one.code]);
  present.sort((a, b) => a.plain - b.plain || pixels(b) - pixels(a));
  return { present, absent: set.classes.filter((one) => !present.includes(one)) };
}

function options(select, pairs, value) {
  const same = select.options.length === pairs.length && pairs.every(([key], i) => select.options[i].value === key);
  if (!same) select.replaceChildren(...pairs.map(([value, text]) => el("option", { value }, text)));
  select.value = value;
}
