"use strict";
// The page works without this. With it: regions are refreshed in place, charts can be asked, logs run along, keys work.
// No HTML is made here: what is shown anew comes from the server as the page itself.

const body = document.body;
const seconds = Number(body.dataset.refresh || 0);
let stopped = false; // by the key s
let busy = false;
let timer = 0;

// --- refreshing ----------------------------------------------------------------------------------

// What the person has ticked, opened or typed stays.
const KEPT = { checked: "input", value: "input, textarea", open: "details" };

const morphing = {
  ignoreActiveValue: true,
  callbacks: {
    beforeAttributeUpdated: (name, node) => !(name in KEPT && node.matches(KEPT[name])),
    beforeNodeMorphed: (before, after) =>
      !(before.nodeType === Node.ELEMENT_NODE && before.matches("[data-chart], [data-tail]") && keeps(before, after)),
  },
};

// A chart is drawn with new numbers, and a log that is followed goes on: their insides are not replaced.
function keeps(before, after) {
  if (before.dataset.tail) return events !== null && after.dataset.tail !== undefined;
  if (before.dataset.chart !== after.dataset.chart) {
    before.dataset.chart = after.dataset.chart;
    draw(before);
  }
  return true;
}

const WHY = { 200: "it cannot be shown anew", 404: "what it shows is gone" };

async function refresh() {
  if (busy) return;
  busy = true;
  let why = "the service does not answer now";
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.redirected && new URL(answer.url).pathname !== location.pathname) return location.reload();
    if (answer.status < 500) why = WHY[answer.status] ?? `the service answers ${answer.status} now`;
    if (!answer.ok) throw new Error(String(answer.status));
    show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    is_fresh();
  } catch {
    is_stale(why);
  } finally {
    busy = false;
  }
}

function show(page) {
  for (const region of document.querySelectorAll("[data-live]")) {
    const anew = page.getElementById(region.id);
    if (anew) Idiomorph.morph(region, anew, morphing);
    else region.remove();
  }
  body.dataset.refresh = page.body.dataset.refresh;
  mark();
}

let fresh_at = new Date();

function is_fresh() {
  fresh_at = new Date();
  document.getElementById("stale").hidden = true;
}

function is_stale(why) {
  const stale = document.getElementById("stale");
  stale.querySelector("span").textContent = why;
  stale.querySelector("time").textContent = fresh_at.toLocaleTimeString();
  stale.hidden = false;
}

function tick() {
  clearTimeout(timer);
  const pause = Number(body.dataset.refresh || 0);
  if (!pause) return;
  timer = setTimeout(async () => {
    if (!document.hidden && !stopped && !is_choosing()) await refresh();
    tick();
  }, pause * 1000);
}

// Rows do not move away under somebody who ticks them.
function is_choosing() {
  return document.querySelector("#list input:checked") !== null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return leave();
  if (seconds && !stopped) refresh();
  follow();
});

// --- charts --------------------------------------------------------------------------------------

const drawn = new Map();

function draw(place) {
  if (typeof uPlot === "undefined") return;
  const told = JSON.parse(place.dataset.chart);
  const known = drawn.get(place);
  if (known && known.series.length === told.data.length) return known.setData(told.data);
  if (known) known.destroy();
  place.replaceChildren();
  drawn.set(place, new uPlot(options(place, told), told.data, place));
}

function options(place, told) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => resolved(place, style.getPropertyValue(name));
  const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
  return {
    width: Math.max(place.clientWidth, 200),
    height: 150,
    tzDate: (second) => uPlot.tzDate(new Date(second * 1000), "Etc/UTC"),
    cursor: { y: false, sync: { key: "all" } },
    scales: { y: { range: (_, low, high) => [0, Math.max(high || 0, told.least || 1)] } },
    series: [{ label: "UTC", value: "{YYYY}-{MM}-{DD} {HH}:{mm}" }, ...told.series.map((each) => ({
      label: each.name, stroke: color(each.color), width: 1.75, points: { show: false, filter: lonely, size: 4, fill: color(each.color) }, spanGaps: false,
      fill: told.series.length === 1 ? resolved(place, `color-mix(in srgb, var(${each.color}) 12%, transparent)`) : undefined,
      value: (_, number) => (number === null ? "–" : amount(number, told.unit)),
    }))],
    axes: [{ ...axis, values: (_, splits) => splits.map((second) => moment(second, told.data[0])) }, { ...axis, size: 62, values: (_, splits) => splits.map((number) => amount(number, told.unit)) }],
    hooks: { draw: [(chart) => draw_marks(chart, told.marks || [], color("--soft"))] },
  };
}

// Where nothing was measured before and after, there is no line: a point shows the value.
function lonely(chart, place) {
  const values = chart.data[place];
  return values.flatMap((value, at) => (value !== null && values[at - 1] == null && values[at + 1] == null ? [at] : []));
}

// light-dark() is no colour for a canvas: an element knows which of the two it is.
function resolved(place, value) {
  const probe = document.createElement("i");
  probe.style.color = value;
  place.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function draw_marks(chart, marks, color) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.strokeStyle = color;
  ctx.setLineDash([3, 3]);
  for (const mark of marks) {
    const x = chart.valToPos(mark.at, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

function moment(second, times) {
  const text = new Date(second * 1000).toISOString();
  return times.at(-1) - times[0] < 86400 ? text.slice(11, 16) : `${text.slice(5, 10)} ${text.slice(11, 16)}`;
}

function amount(number, unit) {
  if (unit !== "s") return number >= 1000 ? `${+(number / 1000).toFixed(1)}k` : String(+number.toFixed(2));
  if (number === 0) return "0";
  if (number < 0.001) return `${+(number * 1e6).toFixed(0)} µs`;
  if (number < 1) return `${+(number * 1e3).toFixed(1)} ms`;
  if (number < 120) return `${+number.toFixed(1)} s`;
  return number < 7200 ? `${+(number / 60).toFixed(1)} min` : `${+(number / 3600).toFixed(1)} h`;
}

function draw_all() {
  for (const place of document.querySelectorAll("[data-chart]")) {
    drawn.get(place)?.destroy();
    drawn.delete(place);
    draw(place);
  }
}

let resizing = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(() => {
    for (const [place, chart] of drawn) chart.setSize({ width: Math.max(place.clientWidth, 200), height: 150 });
  });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw_all);

// --- a task's events -----------------------------------------------------------------------------

const LINES = 1000;
const UNSEEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\u{e0000}-\u{e0fff}]/gu;
let events = null;
let soon = 0;

function follow() {
  const tail = document.querySelector("[data-tail]");
  if (!tail || events || document.hidden) return;
  events = new EventSource(tail.dataset.tail);
  events.addEventListener("task", refresh_soon);
  events.addEventListener("log", (event) => append(tail, JSON.parse(event.data).lines));
  events.addEventListener("end", () => {
    leave();
    refresh_soon();
  });
  events.addEventListener("error", () => {
    if (events?.readyState === EventSource.CLOSED) leave(); // refused: the page is refreshed all the same
  });
}

function append(tail, lines) {
  const is_at_end = tail.scrollTop + tail.clientHeight >= tail.scrollHeight - 8;
  for (const line of lines.filter((each) => Number(each.id) > Number(tail.dataset.last))) {
    const [said, at] = [document.createElement("span"), document.createElement("time")];
    said.className = `line ${line.level}`;
    at.textContent = line.at.slice(11, 19);
    at.dateTime = line.at;
    said.append(at, ` ${line.text.replace(UNSEEN, "\ufffd")}\n`);
    tail.append(said);
    tail.dataset.last = line.id;
  }
  while (tail.childElementCount > LINES) tail.firstElementChild.remove();
  if (is_at_end) tail.scrollTop = tail.scrollHeight;
}

function leave() {
  events?.close();
  events = null;
}

function refresh_soon() {
  soon ||= setTimeout(() => {
    soon = 0;
    refresh();
  }, 200);
}

// --- keys ----------------------------------------------------------------------------------------

let at = null; // the id or place of the row that the keys are at

function rows() {
  return [...document.querySelectorAll("tr[data-row]")];
}

function mark() {
  for (const row of rows()) row.classList.toggle("at", row === at);
}

function step(by) {
  const all = rows();
  if (!all.length) return;
  const place = all.indexOf(at);
  at = all[Math.min(all.length - 1, Math.max(0, place < 0 ? 0 : place + by))];
  mark();
  at.scrollIntoView({ block: "nearest" });
}

const KEYS = {
  "/": () => document.querySelector("[data-search]")?.focus(),
  j: () => step(1),
  k: () => step(-1),
  x: () => at?.querySelector("input[type=checkbox]")?.click(),
  Enter: () => at?.querySelector("a")?.click(),
  r: refresh,
  s: () => {
    stopped = Number(body.dataset.refresh || 0) > 0 && !stopped;
    if (!stopped) refresh();
    document.querySelector("[data-keys]").textContent = stopped ? "stopped; s goes on refreshing" : "press ? for the keys";
  },
  "?": () => document.getElementById("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// --- the beginning -------------------------------------------------------------------------------

// The answer to a form has the form's address, which nobody can ask for again.
const own = document.querySelector("[data-own-address]");
if (own) history.replaceState(null, "", own.dataset.ownAddress);
for (const hidden of document.querySelectorAll(".script-only")) hidden.hidden = false;
document.querySelector("[data-all]")?.addEventListener("change", (event) => {
  for (const box of document.querySelectorAll("#list input[name=uid]")) box.checked = event.target.checked;
});
document.querySelector(".top [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
draw_all();
tick();
follow();
