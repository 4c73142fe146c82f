// Small helpers that all pages share. Text always goes in as text, never as HTML.

export const $ = (selector, root = document) => root.querySelector(selector);

/** Make an element: properties, `on...` listeners, `data-...` and `aria-...` attributes, and children. */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, text] of Object.entries(value)) element.style.setProperty(name, text);
    else if (key.includes("-") || key === "role" || key === "for") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Fetch JSON; what the server says in one line becomes the error's message. */
export async function fetchJSON(path, query = {}) {
  const response = await fetch(address(path, query));
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

export function address(path, query) {
  return `${path}?${new URLSearchParams(query)}`;
}

/** The page of an entry, whose identifier is a path. */
export const pageOf = (id) => `/slide/${id.split("/").map(encodeURIComponent).join("/")}`;

/** Whether Ctrl, Alt or Meta is held to command something; AltGr, which may be reported as Ctrl or Alt, only types. */
export function isCommand(event) {
  const typed = event.getModifierState("AltGraph") || (event.altKey && /^[[\]{}|\\@~]$/.test(event.key));
  return event.metaKey || ((event.ctrlKey || event.altKey) && !typed);
}

export const counted = (number, one, many) => `${number} ${number === 1 ? one : many}`;

export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

export const percent = (share) => (share >= 0.0995 ? (100 * share).toFixed(0) : (100 * share).toFixed(1));

export function area(mm2) {
  if (!mm2) return "";
  if (mm2 >= 0.01) return `${mm2.toFixed(mm2 >= 10 ? 1 : mm2 >= 0.1 ? 2 : 3)} mm²`;
  return `${Math.round(mm2 * 1e6).toLocaleString("en")} µm²`;
}

/** The longest of 1, 2 or 5 times a power of ten that is at most `most`. */
export function roundLength(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].find((factor) => factor * power <= most) * power;
}

export const length = (microns) => (microns >= 1000 ? `${microns / 1000} mm` : `${microns} µm`);

/** Put off a call until no other came for some milliseconds. */
export function debounced(call, delay) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(call, delay, ...values);
  };
}

export const stored = {
  get: (key, fallback) => {
    try {
      return JSON.parse(sessionStorage.getItem(key)) ?? fallback;
    } catch {
      return fallback;
    }
  },
  set: (key, value) => {
    try {
      sessionStorage.setItem(key, JSON.stringify(value));
    } catch { /* full, or forbidden: only comfort is lost */ }
  },
};
