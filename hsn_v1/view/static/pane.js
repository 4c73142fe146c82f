// One view of the slide: OpenSeadragon for the slide itself, and a canvas over it for a label map.

import { address } from "./dom.js";
import { LabelLayer } from "./labels.js";

const STILL = matchMedia("(prefers-reduced-motion: reduce)").matches;
const BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==";

export class Pane {
  /** `events`: moved(pane), hovered(pane, x, y, event), settled(), complain(text). */
  constructor(element, entry, geometry, events) {
    Object.assign(this, { element, entry, events, layers: new Map(), current: null });
    this.viewer = OpenSeadragon({
      element,
      drawer: "canvas",
      showNavigationControl: false,
      keyboardNavEnabled: false,
      animationTime: STILL ? 0.001 : 0.35, // s
      springStiffness: 9,
      maxZoomPixelRatio: 8,
      minZoomImageRatio: 0.7,
      visibilityRatio: 0.3,
      imageLoaderLimit: 4,
      maxImageCacheCount: 120,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { flickEnabled: !STILL },
      tileSources: entry.problem ? blank(entry) : source(entry, geometry),
    });
    this.viewer.canvas.setAttribute("role", "application");
    this.canvas = document.createElement("canvas");
    this.canvas.className = "labels";
    element.append(this.canvas);
    this.context = this.canvas.getContext("2d");
    this.listen();
  }

  listen() {
    const { viewer, events } = this;
    const redraw = () => this.draw();
    for (const event of ["open", "update-viewport", "resize"]) viewer.addHandler(event, redraw);
    viewer.addHandler("viewport-change", () => events.moved(this));
    viewer.addHandler("animation-finish", () => events.settled());
    viewer.addHandler("tile-load-failed", async ({ tile }) => {
      const url = typeof tile.getUrl === "function" ? tile.getUrl() : "";
      const response = url.startsWith("/") ? await fetch(url).catch(() => null) : null;
      events.complain(response && !response.ok ? await response.text() : "the server does not answer");
    });
    for (const event of ["pointerdown", "wheel", "pointerenter"]) {
      this.element.addEventListener(event, () => events.led(this), { passive: true, capture: true });
    }
    this.element.addEventListener("pointermove", (event) => {
      const { x, y } = this.toSlide(event);
      events.hovered(this, x, y, event);
    });
    this.element.addEventListener("pointerleave", () => events.hovered(this, null, null, null));
  }

  get isOpen() {
    return this.viewer.world.getItemCount() > 0;
  }

  /** Resolve when the slide is opened. */
  opened() {
    return this.isOpen ? Promise.resolve() : new Promise((resolve) => this.viewer.addOnceHandler("open", resolve));
  }

  /** Show a layer of a label set; null shows the slide alone. */
  show(setName, layer) {
    const key = layer && `${setName} ${layer.key}`;
    if (layer && !this.layers.has(key)) {
      this.layers.set(key, new LabelLayer(this.entry, setName, layer, () => this.draw(), this.events.complain));
      if (this.layers.size > 4) this.layers.delete(this.layers.keys().next().value);
    }
    this.current = layer ? this.layers.get(key) : null;
    const label = [this.entry.title, setName, layer?.title].filter(Boolean).join(", ");
    this.viewer.canvas.setAttribute("aria-label", `${label}: arrows move, + and - zoom`);
  }

  paint(colours, outline, fade) {
    this.current?.paint(colours, outline);
    this.fade = fade;
    this.draw();
  }

  /** The view in px of the slide: left, top, and screen px to a px of the slide. */
  get place() {
    const bounds = this.viewer.viewport.getBounds(true), { width } = this.entry;
    return { x: bounds.x * width, y: bounds.y * width, scale: this.element.clientWidth / (bounds.width * width) };
  }

  draw() {
    const ratio = devicePixelRatio, { canvas, context, element } = this;
    const [width, height] = [Math.round(element.clientWidth * ratio), Math.round(element.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.clearRect(0, 0, width, height);
    if (!this.isOpen || !this.current || !this.fade) return;
    const { x, y, scale } = this.place;
    canvas.style.opacity = this.fade;
    this.current.draw(context, x, y, scale * ratio);
  }

  toSlide(event) {
    const { x, y, scale } = this.place, box = this.element.getBoundingClientRect();
    return { x: x + (event.clientX - box.left) / scale, y: y + (event.clientY - box.top) / scale };
  }

  /** Centre and width of what is seen, in px of the slide. */
  get view() {
    const bounds = this.viewer.viewport.getBounds(), { width } = this.entry;
    return [(bounds.x + bounds.width / 2) * width, (bounds.y + bounds.height / 2) * width, bounds.width * width];
  }

  look([x, y, width], immediately = true) {
    const { viewport } = this.viewer, full = this.entry.width;
    viewport.zoomTo(full / width, undefined, immediately);
    viewport.panTo(new OpenSeadragon.Point(x / full, y / full), immediately);
    viewport.applyConstraints(immediately);
  }

  /** Show the same centre at the same scale as another pane. */
  follow(other) {
    const { viewport } = this.viewer, theirs = other.viewer.viewport, centre = theirs.getCenter(true);
    const zoom = theirs.getZoom(true) * theirs.getContainerSize().x / viewport.getContainerSize().x;
    if (viewport.getZoom(true) === zoom && viewport.getCenter(true).equals(centre)) return;
    viewport.zoomTo(zoom, null, true);
    viewport.panTo(centre, true);
  }

  zoom(factor) {
    this.viewer.viewport.zoomBy(factor);
    this.viewer.viewport.applyConstraints();
  }

  pan(across, down) {
    const { viewport } = this.viewer, bounds = viewport.getBounds();
    viewport.panBy(new OpenSeadragon.Point(across * bounds.width, down * bounds.height));
    viewport.applyConstraints();
  }

  home() {
    this.viewer.viewport.goHome();
  }

  /** One px of the slide on one px of the screen. */
  fullResolution() {
    const { viewport } = this.viewer;
    viewport.zoomTo(viewport.imageToViewportZoom(1));
  }

  get idle() {
    return this.isOpen && this.viewer.world.getItemAt(0).getFullyLoaded() && (!this.current || this.current.idle);
  }
}

function source(entry, { tile, overlap }) {
  const { width, height, id, version } = entry;
  return {
    width, height, tileSize: tile, tileOverlap: overlap, minLevel: 8,
    maxLevel: Math.ceil(Math.log2(Math.max(width, height))),
    getTileUrl: (level, column, row) => address("/tile/image", { id, level, row, column, v: version }),
  };
}

/** White where the slide itself cannot be read: its label maps still can. */
function blank({ width, height }) {
  return { width, height, tileSize: Math.max(width, height), minLevel: 0, maxLevel: 0, getTileUrl: () => BLANK };
}
