// What a person does: give a table, change what is asked, read the chart, take the result along.

const by = (id) => document.getElementById(id);
const PAUSE = 250; // milliseconds after the last change before the forecast is asked for again
const state = { source: null, series: [], limits: null, forecast: null, chart: null, cursor: null, token: "" };
let reading = null, pending = null, timer = null;

/** A problem of the service (RFC 9457), or what else went wrong. */
class Problem extends Error {
  constructor(title, detail, status) { super(detail); this.title = title; this.status = status; }
}

async function ask(path, options) {
  const headers = { ...(options && options.headers) };
  if (state.token) headers.Authorization = `Bearer ${state.token}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached", "Is it still running? Then try again.", 0);
  }
  if (response.ok) return response.json();
  const found = await response.json().catch(() => ({}));
  throw new Problem(found.title || `Error ${response.status}`, found.detail || response.statusText, response.status);
}

function show(error) {
  if (error.name === "AbortError") return;
  by("token-row").hidden = error.status !== 401;
  if (error.status === 401) by("token").focus();
  const title = document.createElement("strong");
  title.textContent = error.title || "Something went wrong";
  by("error").replaceChildren(title, error.message);
  by("error").hidden = false;
  by("status").textContent = "";
  by("chart").classList.remove("busy");
}

function calm() {
  by("error").hidden = true;
  by("token-row").hidden = true;
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

async function loadModels() {
  const found = await ask("models");
  state.limits = found.limits;
  fill(by("model"), found.models.map((one) => [one.name, one.name]));
  by("horizon").max = found.limits.horizon;
  by("samples").max = found.limits.samples;
  by("version").textContent = `laglite ${found.version}`;
}

/** Let the server read the table that was given last. */
async function read() {
  if (!state.source) return;
  const { name, content } = state.source;
  calm();
  clearTimeout(timer);
  for (const earlier of [reading, pending]) if (earlier) earlier.abort();
  const mine = (reading = new AbortController());
  try {
    if (!state.limits) await loadModels();
    if (mine.signal.aborted) return;
    const size = content.size ?? new Blob([content]).size;
    if (size > state.limits.body) {
      throw new Problem("The file is too large", `${name} has ${size.toLocaleString("en-US")} bytes; this service takes ${state.limits.body.toLocaleString("en-US")}.`);
    }
    const query = new URLSearchParams({ name: name.slice(0, 200) });
    for (const input of document.querySelectorAll("[data-reading]")) {
      if (input.value) query.set(input.dataset.reading, input.value);
    }
    const found = await ask(`table?${query}`, { method: "POST", headers: { "Content-Type": "text/csv" }, body: content, signal: mine.signal });
    state.series = found.series;
    by("notes").replaceChildren(...found.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
    by("notes").hidden = !found.notes.length;
    fill(by("series"), found.series.map((one, place) => [place, one.id ?? name]));
    by("series-label").hidden = by("download-all").hidden = found.series.length < 2;
    await forecast();
  } catch (error) {
    if (mine.signal.aborted) return; // a later table has taken its place
    by("result").hidden = true;
    by("notes").hidden = true;
    show(error);
  }
}

/** Take the chart and table of an earlier forecast away. */
function clear() {
  state.forecast = state.chart = null;
  by("chart").replaceChildren();
  by("chart").removeAttribute("aria-label");
  by("readout").textContent = "\u00a0";
  by("table").tHead.replaceChildren();
  by("table").tBodies[0].replaceChildren();
}

/** What is asked of each series, but for the series. */
function question() {
  const outside = (1 - Number(by("interval").value) / 100) / 2;
  const levels = [outside, 0.25, 0.5, 0.75, 1 - outside].map((level) => Number(level.toFixed(4)));
  return {
    horizon: Number(by("horizon").value),
    model: by("model").value,
    samples: Number(by("samples").value),
    seed: Number(by("seed").value),
    nonnegative: by("nonnegative").checked,
    quantiles: [...new Set(levels)],
  };
}

const asked = ({ id, values, start, freq }) => ({ id, values, start, freq });
const send = (body, signal) => ask("forecast", {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
});

async function forecast() {
  clearTimeout(timer);
  if (!state.series.length || !by("controls").reportValidity()) return;
  if (pending) pending.abort();
  const mine = (pending = new AbortController());
  const series = state.series[by("series").value];
  const title = series.id ?? state.source.name;
  by("result").hidden = false;
  by("chart").classList.add("busy");
  by("status").textContent = "forecasting …";
  by("download").disabled = true;
  try {
    const options = question();
    const answer = await send({ ...options, series: [asked(series)] }, mine.signal);
    calm();
    state.forecast = { ...answer.forecasts[0], series, options };
    by("result-title").textContent = title;
    by("status").textContent = `${options.horizon} ${options.horizon === 1 ? "step" : "steps"} by ${answer.model}`;
    for (const warning of answer.warnings) by("status").textContent += ` · ${warning}`;
    by("download").disabled = false;
    draw();
    fillTable();
  } catch (error) {
    if (error.name !== "AbortError" && state.forecast?.series !== series) {
      clear();
      by("result-title").textContent = title;
    }
    show(error);
  } finally {
    if (pending === mine) { pending = null; by("chart").classList.remove("busy"); }
  }
}

const later = () => { clearTimeout(timer); timer = setTimeout(forecast, PAUSE); };

/** Low and high end of a central interval of a forecast. */
function band(found, percent) {
  const levels = [(1 - percent / 100) / 2, (1 + percent / 100) / 2].map((level) => String(Number(level.toFixed(4))));
  return { low: found.quantiles[levels[0]], high: found.quantiles[levels[1]] };
}

function draw() {
  const found = state.forecast;
  if (!found || by("result").hidden) return;
  const { series } = found, percent = Number(100 * (1 - 2 * found.options.quantiles[0])).toFixed(0);
  const length = series.values.length, horizon = found.mean.length;
  const recent = Math.min(length, Math.max(60, 3 * horizon));
  const outer = band(found, Number(percent)), inner = percent > 50 ? band(found, 50) : null;
  const times = series.timestamps && found.timestamps ? [...series.timestamps, ...found.timestamps] : null;
  state.chart = drawChart(by("chart"), {
    values: series.values,
    first: by("shown").value === "all" ? 0 : length - recent,
    median: found.quantiles["0.5"],
    outer, inner, times,
  });
  state.chart.times = times;
  by("outer-legend").textContent = `${percent} % interval`;
  by("inner-legend").hidden = !inner;
  const span = state.chart.span, end = horizon - 1;
  by("chart").setAttribute(
    "aria-label",
    `Fan chart of ${by("result-title").textContent}: ${length} values, then ${horizon} steps. ` +
    `The median goes from ${pretty(found.quantiles["0.5"][0], span)} to ${pretty(found.quantiles["0.5"][end], span)}; ` +
    `at the end the ${percent} % interval is ${pretty(outer.low[end], span)} to ${pretty(outer.high[end], span)}. ` +
    "Arrow keys read single values.",
  );
  moveTo(null);
}

/** Put the cursor at a place, and say what is there. */
function moveTo(at) {
  const { chart, forecast: found } = state;
  if (!chart) return;
  state.cursor = at;
  chart.place(at);
  if (at === null) { by("readout").textContent = "\u00a0"; return; }
  const step = at - found.series.values.length;
  const when = chart.times ? chart.times[at] : step < 0 ? `value ${at + 1}` : `step ${step + 1}`;
  const say = (value) => pretty(value, chart.span);
  const levels = found.options.quantiles, low = levels[0], high = levels[levels.length - 1];
  by("readout").textContent = step < 0
    ? `${when}: ${say(found.series.values[at])}`
    : `${when}: ${say(found.quantiles["0.5"][step])} (${say(found.quantiles[low][step])} to ${say(found.quantiles[high][step])})`;
}

function fillTable() {
  const found = state.forecast, levels = Object.keys(found.quantiles);
  const row = (kind, cells) => {
    const made = document.createElement("tr");
    made.append(...cells.map((cell) => Object.assign(document.createElement(kind), { textContent: cell })));
    return made;
  };
  const head = row("th", [found.timestamps ? "ds" : "step", "mean", ...levels]);
  for (const cell of head.children) cell.scope = "col";
  by("table").tHead.replaceChildren(head);
  const span = state.chart.span;
  by("table").tBodies[0].replaceChildren(...found.mean.map((mean, step) => row("td", [
    found.timestamps ? found.timestamps[step] : step + 1,
    ...[mean, ...levels.map((level) => found.quantiles[level][step])].map((value) => pretty(value, span, true)),
  ])));
}

const quoted = (cell) => (/[",\n\r]/.test(cell) ? `"${String(cell).replaceAll('"', '""')}"` : cell);

/** Forecasts in the columns of `laglite forecast`: [unique_id,] ds or step, mean, quantiles. */
function asCsv(forecasts) {
  const levels = Object.keys(forecasts[0].quantiles);
  const named = forecasts.some((one) => one.id !== null), timed = forecasts.every((one) => one.timestamps);
  const rows = [[...(named ? ["unique_id"] : []), timed ? "ds" : "step", "mean", ...levels]];
  for (const one of forecasts) {
    one.mean.forEach((mean, step) => rows.push([
      ...(named ? [one.id] : []), timed ? one.timestamps[step] : step + 1, mean,
      ...levels.map((level) => one.quantiles[level][step]),
    ]));
  }
  return rows.map((cells) => cells.map(quoted).join(",") + "\n").join("");
}

function save(forecasts, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([asCsv(forecasts)], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const stem = () => state.source.name.replace(/\.[^.]*$/, "") || "series";

/** All series, in as many requests as the limits need; the seed makes the numbers the same. */
async function downloadAll() {
  const options = question(), { draws, steps, series: most } = state.limits;
  const fit = Math.min(steps, draws / options.samples) / options.horizon;
  const size = Math.max(1, Math.min(most, Math.floor(fit)));
  const found = [];
  by("download-all").disabled = true;
  try {
    for (let begin = 0; begin < state.series.length; begin += size) {
      by("status").textContent = `${begin} of ${state.series.length} series`;
      const part = state.series.slice(begin, begin + size).map(asked);
      found.push(...(await send({ ...options, series: part })).forecasts);
    }
    by("status").textContent = `${found.length} series`;
    calm();
    save(found, `${stem()}-forecasts.csv`);
  } catch (error) {
    show(error);
  } finally {
    by("download-all").disabled = false;
  }
}

/** Half a year of days with a week's rhythm, the same at every call. */
function example() {
  let noise = 7, rows = "date,visitors\n";
  for (let day = 0; day < 182; day++) {
    noise = (noise * 16807) % 2147483647;
    const date = new Date(Date.UTC(2024, 0, 1 + day)).toISOString().slice(0, 10);
    const week = [0, -12, -8, 4, 22, 61, 48][day % 7];
    rows += `${date},${Math.round(140 + 0.35 * day + week + 18 * (noise / 2147483647 - 0.5))}\n`;
  }
  return rows;
}

function take(name, content) {
  state.source = { name, content };
  return read();
}

function listen() {
  by("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) take(file.name, file);
    event.target.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("dragover", (event) => { event.preventDefault(); by("drop").classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) by("drop").classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    by("drop").classList.remove("over");
    const [file] = event.dataTransfer.files, text = event.dataTransfer.getData("text/plain");
    if (file) take(file.name, file);
    else if (text) take("dropped text", text);
  });
  by("use-text").addEventListener("click", () => take("pasted text", by("text").value));
  by("example").addEventListener("click", () => take("example", example()));
  by("read-again").addEventListener("click", read);
  const withToken = (event) => {
    event.preventDefault();
    state.token = by("token").value;
    calm();
    if (state.source) read();
    else loadModels().catch(show);
  };
  by("token-row").addEventListener("submit", withToken);
  by("controls").addEventListener("submit", (event) => { event.preventDefault(); forecast(); });
  by("controls").addEventListener("input", (event) => (event.target.id === "shown" ? draw() : later()));
  by("download").addEventListener("click", () => save([state.forecast], `${stem()}-forecast.csv`));
  by("download-all").addEventListener("click", downloadAll);
  const chart = by("chart");
  chart.addEventListener("pointermove", (event) => state.chart && moveTo(state.chart.nearest(event.clientX)));
  chart.addEventListener("pointerleave", () => moveTo(null));
  chart.addEventListener("keydown", (event) => {
    if (!state.chart) return;
    const { first, last } = state.chart, begin = state.forecast.series.values.length;
    const from = state.cursor ?? begin - 1;
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: first, End: last, Escape: null }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    moveTo(to === null ? null : Math.min(last, Math.max(first, to)));
  });
  new ResizeObserver(() => draw()).observe(chart);
  loadModels().catch(show);
}

listen();
