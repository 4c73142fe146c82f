// The keyboard: everything the slide page does has a key.

import { el, isCommand } from "./dom.js";

/** Install keys, `[keys, words, action]`; keys with a modifier, and those typed into fields, are left alone. */
export function installKeys(table, dialog) {
  const actions = new Map(table.flatMap(([keys, , action]) => keys.map((key) => [key, action])));
  document.addEventListener("keydown", (event) => {
    if (isCommand(event)) return;
    const field = event.target.closest?.("input:not([type=checkbox]), select, textarea, dialog[open]");
    if (field && event.key !== "Escape") return;
    const digit = event.code.match(/^Digit([1-9])$/)?.[1];
    const isSign = /\D/.test(event.key) && actions.has(event.key); // such as "[", by AltGr and 8
    const key = digit && !isSign ? (event.shiftKey ? `shift ${digit}` : digit) : event.key;
    const action = actions.get(key);
    if (!action) return;
    event.preventDefault();
    action(key);
  });
  const close = el("button", { type: "button", onclick: () => dialog.close() }, "Close");
  dialog.replaceChildren(el("h2", {}, "Keys"), el("dl", {}, table.filter(([, words]) => words).map(([keys, words]) => [
    el("dt", {}, shown(keys).map((key) => el("kbd", {}, key))), el("dd", {}, words)])), close);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

const NAMES = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };

function shown(keys) {
  if (keys.includes("1")) return ["1", "…", "9"];
  if (keys.includes("shift 1")) return ["shift", "1", "…", "9"];
  return keys.filter((key) => key !== "=" && key !== "?" && key !== "Escape").map((key) => NAMES[key] ?? key);
}
