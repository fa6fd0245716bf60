// The adaptation curve: the error after so many answers, with its interval, and where we are.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 440, HEIGHT = 190, LEFT = 46, RIGHT = 12, TOP = 12, BOTTOM = 32;

export function draw(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The curve's value after some answers, on the line between its points.
export function valueAt(points, shots) {
  const after = points.findIndex((point) => point.shots >= shots);
  if (after === -1) return points[points.length - 1].value;
  if (after === 0) return points[0].value;
  const [a, b] = [points[after - 1], points[after]];
  return a.value + ((b.value - a.value) * (shots - a.shots)) / (b.shots - a.shots);
}

export function curve(found, shots, label) {
  const points = found.points;
  const lows = points.map((p) => p.low ?? p.value), highs = points.map((p) => p.high ?? p.value);
  const low = Math.min(...lows), high = Math.max(...highs);
  const room = (high - low || 1) * 0.08;
  const last = points[points.length - 1].shots || 1;
  // The first answers matter most: a root gives them room.
  const x = (s) => LEFT + (WIDTH - LEFT - RIGHT) * Math.sqrt(Math.min(s, last) / last);
  const y = (v) => TOP + (HEIGHT - TOP - BOTTOM) * ((high + room - v) / (high - low + 2 * room));
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "curve" });
  svg.append(draw("title", {}, label));
  for (const value of [low, (low + high) / 2, high]) {
    svg.append(draw("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value), class: "grid" }));
    svg.append(draw("text", { x: LEFT - 6, y: y(value) + 4, class: "axis end" }, value.toFixed(2)));
  }
  for (const { shots: s } of points) {
    svg.append(draw("text", { x: x(s), y: HEIGHT - 14, class: "axis middle" }, s));
  }
  svg.append(draw("text", { x: WIDTH - RIGHT, y: HEIGHT - 1, class: "axis end" }, "answers"));
  const there = points.map((p, i) => `${x(p.shots)},${y(highs[i])}`);
  const back = points.map((p, i) => `${x(p.shots)},${y(lows[i])}`).reverse();
  svg.append(draw("polygon", { points: [...there, ...back].join(" "), class: "band" }));
  svg.append(draw("polyline", { points: points.map((p) => `${x(p.shots)},${y(p.value)}`).join(" "), class: "line" }));
  const here = valueAt(points, shots);
  svg.append(draw("line", { x1: x(shots), x2: x(shots), y1: y(here), y2: HEIGHT - BOTTOM + 4, class: "here" }));
  svg.append(draw("circle", { cx: x(shots), cy: y(here), r: 5.5, class: "dot" }));
  return svg;
}

// A value with its interval on a scale that several rows share.
export function whisker(value, low, high, from, to) {
  const width = 160, x = (v) => 6 + (width - 12) * ((v - from) / (to - from || 1));
  const svg = draw("svg", { viewBox: `0 0 ${width} 16`, class: "whisker", "aria-hidden": "true" });
  svg.append(draw("line", { x1: 0, x2: width, y1: 8, y2: 8, class: "grid" }));
  if (low !== null && high !== null) {
    svg.append(draw("line", { x1: x(low), x2: x(high), y1: 8, y2: 8, class: "span" }));
  }
  svg.append(draw("circle", { cx: x(value), cy: 8, r: 5, class: "dot" }));
  return svg;
}
