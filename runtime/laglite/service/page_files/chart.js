// The fan chart: history, median and intervals as one SVG, drawn anew for every width.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { top: 10, right: 12, bottom: 30 };

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Round numbers, about `count` of them, over [low, high]. */
function niceTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough);
  const ticks = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) ticks.push(at * step);
  return ticks;
}

/** A number for people: as many digits as tell apart values that differ by `span`; all if fixed. */
function pretty(value, span, fixed = false) {
  if (value === null || value === undefined) return "missing";
  if (value !== 0 && (Math.abs(value) >= 1e9 || Math.abs(value) < 1e-4)) return value.toPrecision(4);
  const digits = Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(span || Math.abs(value) || 1))));
  const least = fixed ? digits : 0;
  return value.toLocaleString("en-US", { minimumFractionDigits: least, maximumFractionDigits: digits });
}

/** "2024-03-01 05:00:00" to what fits under an axis. */
function shortTime(time) {
  return time.length > 10 ? time.slice(5, 16) : time;
}

/** Segments of [x, y] without the gaps of missing values; the extremes of a pixel where many. */
function segments(values, first, x, y, width) {
  const found = [];
  let current = [];
  const bucket = Math.max(1, Math.floor((values.length - first) / (2 * width)));
  for (let begin = first; begin < values.length; begin += bucket) {
    let low = null, high = null;
    for (let at = begin; at < Math.min(begin + bucket, values.length); at++) {
      if (values[at] === null) continue;
      if (low === null || values[at] < values[low]) low = at;
      if (high === null || values[at] > values[high]) high = at;
    }
    if (low === null) {
      if (current.length) found.push(current);
      current = [];
      continue;
    }
    for (const at of low === high ? [low] : [Math.min(low, high), Math.max(low, high)]) {
      current.push([x(at), y(values[at])]);
    }
  }
  if (current.length) found.push(current);
  return found;
}

const asPath = (points) => "M" + points.map(([a, b]) => `${a.toFixed(1)} ${b.toFixed(1)}`).join("L");

/**
 * Draw `data` into `box`: values and their times, steps ahead with median and two bands.
 * Returns where things are, so that a cursor can be placed.
 */
function drawChart(box, data) {
  const width = Math.max(280, box.clientWidth), height = width < 560 ? 260 : 380;
  const { values, median, outer, inner, first } = data;
  const shown = values.slice(first).filter((value) => value !== null);
  const all = [...outer.low, ...outer.high, ...median];
  let low = Infinity, high = -Infinity;
  for (const value of shown) { low = Math.min(low, value); high = Math.max(high, value); }
  for (const value of all) { low = Math.min(low, value); high = Math.max(high, value); }
  const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  low -= pad; high += pad;
  const ticks = niceTicks(low, high, height < 300 ? 4 : 6);
  const labels = ticks.map((tick) => pretty(tick, high - low));
  const left = 14 + 7 * Math.max(...labels.map((label) => label.length));
  const last = values.length + median.length - 1;
  const x = (at) => left + ((at - first) / Math.max(1, last - first)) * (width - left - MARGIN.right);
  const y = (value) =>
    height - MARGIN.bottom - ((value - low) / (high - low)) * (height - MARGIN.top - MARGIN.bottom);

  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
  ticks.forEach((tick, place) => {
    svg.append(element("line", { class: "grid", x1: left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }));
    svg.append(element("text", { class: "axis-text", x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, labels[place]));
  });
  const apart = 120; // pixels: a label and a half, since the outer ones lie inside
  const many = Math.max(2, Math.min(last - first + 1, Math.floor((width - left) / apart) + 1));
  for (let place = 0; place < many; place++) {
    const at = Math.round(first + (place * (last - first)) / (many - 1));
    const anchor = place === 0 ? "start" : place === many - 1 ? "end" : "middle";
    const label = data.times ? shortTime(data.times[at]) : String(at + 1);
    svg.append(element("text", { class: "axis-text", x: x(at), y: height - 8, "text-anchor": anchor }, label));
  }
  const begin = values.length;
  const steps = median.map((_, step) => begin + step);
  for (const [name, band] of [["outer", outer], ["inner", inner]]) {
    if (!band) continue;
    const up = band.high.map((value, step) => [x(steps[step]), y(value)]);
    const down = band.low.map((value, step) => [x(steps[step]), y(value)]).reverse();
    if (steps.length === 1) { // a band of one step has no width of its own
      up.push([up[0][0] + 4, up[0][1]]); down.unshift([down[0][0] + 4, down[0][1]]);
    }
    svg.append(element("path", { class: `band-${name}`, d: asPath([...up, ...down]) + "Z" }));
  }
  svg.append(element("line", { class: "now", x1: x(begin - 0.5), x2: x(begin - 0.5), y1: MARGIN.top, y2: height - MARGIN.bottom }));
  for (const points of segments(values, first, x, y, width)) {
    if (points.length === 1) {
      svg.append(element("circle", { class: "point-history", cx: points[0][0], cy: points[0][1], r: 1.8 }));
    } else svg.append(element("path", { class: "line-history", d: asPath(points) }));
  }
  const centre = steps.map((at, step) => [x(at), y(median[step])]);
  if (values[begin - 1] !== null) {
    svg.append(element("path", { class: "line-join", d: asPath([[x(begin - 1), y(values[begin - 1])], centre[0]]) }));
  }
  if (centre.length === 1) svg.append(element("circle", { class: "cursor-point", cx: centre[0][0], cy: centre[0][1], r: 3 }));
  else svg.append(element("path", { class: "line-median", d: asPath(centre) }));
  const cursor = element("line", { class: "cursor", y1: MARGIN.top, y2: height - MARGIN.bottom, visibility: "hidden" });
  const point = element("circle", { class: "cursor-point", r: 4, visibility: "hidden" });
  svg.append(cursor, point);
  box.replaceChildren(svg);

  return {
    first,
    last,
    span: high - low,
    /** The place whose x is nearest to a position on the screen. */
    nearest(clientX) {
      const inside = ((clientX - svg.getBoundingClientRect().left) * width) / svg.clientWidth;
      const share = (inside - left) / (width - left - MARGIN.right);
      return Math.round(first + Math.min(1, Math.max(0, share)) * (last - first));
    },
    /** Put the cursor at a place, nowhere for null. */
    place(at) {
      const value = at === null ? null : at < begin ? values[at] : median[at - begin];
      cursor.setAttribute("visibility", at === null ? "hidden" : "visible");
      point.setAttribute("visibility", value === null ? "hidden" : "visible");
      if (at === null) return;
      cursor.setAttribute("x1", x(at)); cursor.setAttribute("x2", x(at));
      if (value !== null) { point.setAttribute("cx", x(at)); point.setAttribute("cy", y(value)); }
    },
  };
}
