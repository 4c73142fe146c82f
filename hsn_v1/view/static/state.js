// What the slide page shows, and its form as the address's fragment: a link reopens the very view.

const DEFAULTS = { set: "", layer: "", fade: 0.6, mask: true, outline: false, compare: "", safe: false };

/** State with listeners. `off` holds "set/code" of the classes that are switched off; `view` is centre and width in px. */
export class State {
  constructor(values) {
    this.values = { ...DEFAULTS, off: new Set(), view: null, ...values };
    this.listeners = [];
  }

  listen(listener) {
    this.listeners.push(listener);
  }

  set(changes) {
    const changed = Object.keys(changes).filter((key) => changes[key] !== this.values[key]);
    Object.assign(this.values, changes);
    if (changed.length) for (const listener of this.listeners) listener(this.values, new Set(changed));
  }

  /** Switch classes of a set on or off. */
  switch(set, codes, on) {
    const off = new Set(this.values.off);
    for (const code of codes) on ? off.delete(`${set}/${code}`) : off.add(`${set}/${code}`);
    this.set({ off });
  }
}

/** Write state as a fragment; of a set's classes whichever list is shorter, those on or those off. */
export function toFragment(values, sets) {
  const query = new URLSearchParams();
  for (const key of ["set", "layer", "compare"]) if (values[key]) query.set(key, values[key]);
  if (values.fade !== DEFAULTS.fade) query.set("fade", Math.round(100 * values.fade));
  for (const key of ["outline", "safe"]) if (values[key]) query.set(key, 1);
  if (!values.mask) query.set("mask", 0);
  for (const { name, classes } of sets) {
    const off = classes.filter(({ code }) => values.off.has(`${name}/${code}`));
    const on = classes.filter(({ code }) => !values.off.has(`${name}/${code}`));
    const shorter = off.length <= on.length ? ["off", off] : ["on", on];
    if (off.length) query.set(`${shorter[0]}.${name}`, shorter[1].map(({ code }) => code).join(","));
  }
  if (values.view) query.set("view", values.view.map((value) => Math.round(value)).join(","));
  return query.toString();
}

/** Read a fragment; what does not fit the entry is ignored. */
export function fromFragment(text, sets) {
  const query = new URLSearchParams(text.replace(/^#/, ""));
  const values = { off: new Set() };
  const known = sets.find(({ name }) => name === query.get("set"));
  if (known) values.set = known.name;
  for (const key of ["layer", "compare"]) if (query.get(key)) values[key] = query.get(key);
  if (/^\d+$/.test(query.get("fade") ?? "")) values.fade = Math.min(100, Number(query.get("fade"))) / 100;
  for (const key of ["outline", "safe"]) values[key] = query.get(key) === "1";
  values.mask = query.get("mask") !== "0";
  for (const { name, classes } of sets) {
    const off = query.get(`off.${name}`)?.split(","), on = query.get(`on.${name}`)?.split(",");
    for (const { code } of classes) {
      if (off?.includes(code) || (on && !on.includes(code))) values.off.add(`${name}/${code}`);
    }
  }
  const view = (query.get("view") ?? "").split(",").map(Number);
  if (view.length === 3 && view.every(Number.isFinite) && view[2] > 0) values.view = view;
  return values;
}
