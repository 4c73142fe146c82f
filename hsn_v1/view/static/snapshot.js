// A picture of the view for a slide deck: what is seen, with title, legend and scale bar.

import { css, length, percent, roundLength } from "./dom.js";
import { ordered } from "./panel.js";

const MARGIN = 24, LINE = 26, SWATCH = 16, FONT = "system-ui, sans-serif";

/** Draw panes side by side, with legends and the caveat below; returns a canvas. `legends` are of each label set. */
export function compose(entry, panes, captions, legends, values) {
  const ratio = devicePixelRatio;
  const width = panes.reduce((sum, pane) => sum + pane.canvas.width / ratio + MARGIN, MARGIN);
  const height = Math.max(...panes.map((pane) => pane.canvas.height / ratio));
  const columns = Math.max(1, Math.floor((width - 2 * MARGIN) / 260));
  const lines = legends.reduce((sum, { classes }) => sum + 1 + Math.ceil(classes.length / columns), 0);
  const canvas = document.createElement("canvas"), caveat = linesOf(canvas, entry.caveat, width - 2 * MARGIN);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round((3.5 * MARGIN + height + LINE + (lines + caveat.length) * LINE) * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, canvas.height / ratio);
  context.fillStyle = "#14181d";
  context.textBaseline = "middle";
  context.font = `600 16px ${FONT}`;
  context.fillText(entry.title, MARGIN, MARGIN, width - 2 * MARGIN);
  let left = MARGIN;
  const top = 2 * MARGIN;
  panes.forEach((pane, i) => {
    drawPane(context, pane, left, top, ratio, values);
    context.fillStyle = "#55606b";
    context.font = `13px ${FONT}`;
    context.fillText(captions[i], left, top + height + LINE / 2 + 4, pane.canvas.width / ratio);
    left += pane.canvas.width / ratio + MARGIN;
  });
  if (entry.mpp) scaleBar(context, panes[0], MARGIN, top + height, entry.mpp);
  let y = top + height + LINE + MARGIN;
  for (const legend of legends) y = drawLegend(context, legend, y, columns, (width - 2 * MARGIN) / columns, values);
  context.fillStyle = "#a3312a";
  context.font = `14px ${FONT}`;
  caveat.forEach((line, i) => context.fillText(line, MARGIN, y + i * LINE, width - 2 * MARGIN));
  return canvas;
}

/** Break a text into lines of a width. */
function linesOf(canvas, text, width) {
  const context = canvas.getContext("2d"), lines = [];
  context.font = `14px ${FONT}`;
  for (const word of text.split(/\s+/).filter(Boolean)) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && context.measureText(longer).width <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

function drawPane(context, pane, left, top, ratio, values) {
  const { canvas } = pane, width = canvas.width / ratio, height = canvas.height / ratio;
  context.drawImage(pane.viewer.drawer.canvas, left, top, width, height);
  if (values.mask && pane.current) {
    context.globalAlpha = values.fade;
    context.drawImage(canvas, left, top, width, height);
    context.globalAlpha = 1;
  }
  context.strokeStyle = "#d5dae0";
  context.strokeRect(left + 0.5, top + 0.5, width - 1, height - 1);
}

function scaleBar(context, pane, left, bottom, mpp) {
  const { scale } = pane.place;
  const microns = roundLength(160 * mpp / scale), wide = microns / mpp * scale;
  context.fillStyle = "rgb(255 255 255 / .85)";
  context.fillRect(left + 12, bottom - 48, wide + 24, 36);
  context.fillStyle = "#14181d";
  context.fillRect(left + 24, bottom - 22, wide, 3);
  context.font = `13px ${FONT}`;
  context.fillText(length(microns), left + 24, bottom - 34);
}

function drawLegend(context, { title, classes, set }, y, columns, step, values) {
  context.fillStyle = "#55606b";
  context.font = `13px ${FONT}`;
  context.fillText(title, MARGIN, y);
  y += LINE;
  classes.forEach((one, i) => {
    const x = MARGIN + (i % columns) * step, line = y + Math.floor(i / columns) * LINE;
    context.fillStyle = css(values.safe ? one.safe : one.published);
    context.fillRect(x, line - SWATCH / 2, SWATCH, SWATCH);
    context.strokeStyle = "#14181d";
    context.strokeRect(x + 0.5, line - SWATCH / 2 + 0.5, SWATCH - 1, SWATCH - 1);
    const share = set.areas[one.code]?.share;
    context.fillStyle = "#14181d";
    context.font = `14px ${FONT}`;
    context.fillText(share ? `${one.name}, ${percent(share)} %` : one.name, x + SWATCH + 8, line, step - SWATCH - 20);
  });
  return y + Math.ceil(classes.length / columns) * LINE;
}

/** The classes of a set that are switched on and occur. */
export function legendOf(set, values) {
  const classes = ordered(set).present.filter(({ code }) => !values.off.has(`${set.name}/${code}`));
  return { title: `${set.name}, share of the tissue`, classes, set };
}

/** Let the browser save a canvas as a PNG file. */
export async function download(canvas, name) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
