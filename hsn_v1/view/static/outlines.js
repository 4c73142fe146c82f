// Outlines of the regions of a label tile.

/** Keep the pixels at a region's border, seen from inside; tiles' own edges are no border. */
export function borderPixels(indices, side, shown) {
  const border = new Uint8Array(indices.length);
  for (let y = 0, i = 0; y < side; y++) {
    for (let x = 0; x < side; x++, i++) {
      const index = indices[i];
      border[i] = shown[index] && (
        (x > 0 && indices[i - 1] !== index) || (x < side - 1 && indices[i + 1] !== index) ||
        (y > 0 && indices[i - side] !== index) || (y < side - 1 && indices[i + side] !== index)
      );
    }
  }
  return border;
}

/** Trace borders along pixel edges, in px of the tile: a path for each class index that is shown. */
export function borderPaths(indices, side, shown) {
  const paths = new Map();
  const draw = (index, x0, y0, x1, y1) => {
    if (!paths.has(index)) paths.set(index, new Path2D());
    const path = paths.get(index);
    path.moveTo(x0, y0);
    path.lineTo(x1, y1);
  };
  const along = (at, segment) => { // runs of equal pairs become one segment
    for (let line = 1; line < side; line++) {
      let start = 0, before = -1, after = -1;
      for (let place = 0; place <= side; place++) {
        const a = place < side ? indices[at(line - 1, place)] : -1, b = place < side ? indices[at(line, place)] : -1;
        if (a === before && b === after) continue;
        if (before !== after) for (const index of [before, after]) if (shown[index]) segment(index, line, start, place);
        [start, before, after] = [place, a, b];
      }
    }
  };
  along((line, place) => line * side + place, (index, y, x0, x1) => draw(index, x0, y, x1, y));
  along((line, place) => place * side + line, (index, x, y0, y1) => draw(index, x, y0, x, y1));
  return paths;
}
