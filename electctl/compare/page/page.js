// The page: its theme, its tooltip, the keyboard in the matrix, the dialog of one cell.

const lines = JSON.parse(document.getElementById("data").textContent);
const cells = new Map();
for (const line of lines)
  for (const cell of line.evidence) cells.set(keyOf(cell), cell);

function keyOf(cell) {
  return `${cell.scheme}/${cell.candidate}/${cell.fault}`;
}

function nameOf(cell) {
  const by = cell.candidate === "electctl" ? "" : ` by ${cell.candidate}`;
  return `${cell.scheme} × ${cell.fault}${by}`;
}

const WORDS = { not_injected: "not injected" };
const word = (verdict) => WORDS[verdict] ?? verdict;

function ms(time) {
  if (time === null || time === undefined) return "–";
  if (time < 0) return `−${ms(-time)}`;
  if (time < 1000) return `${Math.round(time)} ms`;
  return `${(time / 1000).toFixed(time < 10000 ? 2 : 1)} s`;
}

// Elements, never from text: what a name holds stays text.
function element(name, attributes = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside.filter((each) => each !== null));
  return made;
}

function drawn(name, attributes = {}, text = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

// Theme -------------------------------------------------------------------------------------------

for (const choice of document.querySelectorAll('input[name="theme"]'))
  choice.addEventListener("change", () => {
    if (choice.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice.value;
  });

// Printed without a timeline, what is folded is printed too.
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("main details:not([open])")) {
    each.open = true;
    each.dataset.printed = "";
  }
});
addEventListener("afterprint", () => {
  for (const each of document.querySelectorAll("[data-printed]")) {
    each.open = false;
    delete each.dataset.printed;
  }
});

// Tooltip -----------------------------------------------------------------------------------------

const tip = document.getElementById("tip");

function showTip(text, x, y) {
  tip.textContent = text;
  if (tip.matches(":popover-open")) tip.hidePopover(); // shown anew, it is above the dialog
  tip.showPopover();
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(Math.max(4, x + 12), innerWidth - width - 4);
  const above = y - height - 12;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 4 ? above : Math.min(y + 18, innerHeight - height - 4)}px`;
}

function hideTip() {
  if (tip.matches(":popover-open")) tip.hidePopover();
}

addEventListener("pointermove", (event) => {
  const over = event.target.closest?.("[data-tip]");
  if (over && event.buttons === 0) showTip(over.dataset.tip, event.clientX, event.clientY);
  else hideTip();
});
// What has the keyboard's focus tells too, also after the page was scrolled to it.
function tipOfFocus() {
  const over = document.activeElement?.closest("[data-tip]:focus-visible");
  if (!over) return hideTip();
  const box = over.getBoundingClientRect();
  showTip(over.dataset.tip, box.left, box.top);
}
addEventListener("focusin", tipOfFocus);
addEventListener("focusout", hideTip);
addEventListener("scroll", tipOfFocus, { passive: true, capture: true });

// Matrix ------------------------------------------------------------------------------------------

const matrix = document.getElementById("matrix");
const grid = [...matrix.querySelectorAll("tbody tr")].map((row) => [
  ...row.querySelectorAll(".cell"),
]);
let at = [0, 0];
if (grid.length) {
  const first = grid.findIndex((row) => row.some((each) => each.dataset.cell));
  if (first >= 0) at = [first, grid[first].findIndex((each) => each.dataset.cell)];
  grid[at[0]][at[1]].tabIndex = 0;
}

function place(row, column) {
  grid[at[0]][at[1]].tabIndex = -1;
  at = [
    Math.min(Math.max(row, 0), grid.length - 1),
    Math.min(Math.max(column, 0), grid[0].length - 1),
  ];
  grid[at[0]][at[1]].tabIndex = 0;
  return grid[at[0]][at[1]];
}

function placeOf(cell) {
  const row = grid.findIndex((each) => each.includes(cell));
  return [row, row < 0 ? -1 : grid[row].indexOf(cell)];
}

matrix.addEventListener("keydown", (event) => {
  if (!event.target.matches(".cell") || event.ctrlKey || event.altKey || event.metaKey) return;
  const [row, column] = placeOf(event.target);
  const moves = {
    ArrowUp: [row - 1, column],
    ArrowDown: [row + 1, column],
    ArrowLeft: [row, column - 1],
    ArrowRight: [row, column + 1],
    Home: [row, 0],
    End: [row, grid[0].length - 1],
    PageUp: [0, column],
    PageDown: [grid.length - 1, column],
  };
  if (!(event.key in moves)) return;
  event.preventDefault();
  place(...moves[event.key]).focus();
});

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-cell]");
  if (!button) return;
  if (button.matches(".cell")) place(...placeOf(button));
  open(button.dataset.cell);
});

// Dialog ------------------------------------------------------------------------------------------

const dialog = document.getElementById("drill");
const part = (name) => dialog.querySelector(name);
let timeline = null;

function open(key) {
  const cell = cells.get(key);
  if (!cell) return;
  hideTip();
  const result = cell.shown;
  const icon = drawn("svg", { class: "icon", "aria-hidden": "true" });
  icon.append(drawn("use", { href: `#i-${cell.verdict}` }));
  const badge = element("span", { class: `verdict v-${cell.verdict}` }, icon, word(cell.verdict));
  document.getElementById("d-title").replaceChildren(nameOf(cell), badge);
  part(".d-why").textContent = result.why;
  part(".d-facts").replaceChildren(...facts(cell));
  part(".d-table .scroll").replaceChildren(asTable(result));
  dialog.dataset.key = key;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  timeline = new Timeline(document.getElementById("timeline"), result, part("#by").value);
  timeline.onWindow = (text) => (part(".d-window").textContent = text);
  timeline.draw();
  part('[data-do="fault"]').hidden = !result.injected;
  part('[data-do="overlap"]').hidden = !timeline.anyOverlap();
  part(".d-legend").replaceChildren(...timeline.legend());
  timeline.svg.focus({ focusVisible: false });
  history.replaceState(null, "", `#${key}`);
}

dialog.addEventListener("close", () => {
  hideTip();
  history.replaceState(null, "", location.pathname + location.search);
  const button = matrix.querySelector(`[data-cell="${CSS.escape(dialog.dataset.key)}"]`);
  if (button) place(...placeOf(button)).focus();
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close(); // its backdrop
});

function step(by) {
  const button = matrix.querySelector(`[data-cell="${CSS.escape(dialog.dataset.key)}"]`);
  let [row, column] = placeOf(button);
  for (row += by; grid[row]; row += by)
    if (grid[row][column].dataset.cell) {
      place(row, column);
      return open(grid[row][column].dataset.cell);
    }
}

const ACTIONS = {
  close: () => dialog.close(),
  previous: () => step(-1),
  next: () => step(1),
  in: () => timeline.zoom(0.6),
  out: () => timeline.zoom(1 / 0.6),
  all: () => timeline.all(),
  fault: () => timeline.fault(),
  overlap: () => timeline.overlap(),
};
const KEYS = { "+": "in", "=": "in", "-": "out", 0: "all", f: "fault", o: "overlap", PageUp: "previous", PageDown: "next" };

dialog.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-do]");
  if (button) ACTIONS[button.dataset.do]();
});
dialog.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("select")) return;
  if (event.key in KEYS) ACTIONS[KEYS[event.key]]();
  else if (event.key === "ArrowLeft") timeline.pan(-0.15);
  else if (event.key === "ArrowRight") timeline.pan(0.15);
  else return;
  event.preventDefault();
});
part("#by").addEventListener("change", (event) => timeline.group(event.target.value));
new ResizeObserver(() => {
  if (dialog.open && timeline.width !== timeline.svg.clientWidth) timeline.draw();
}).observe(dialog);

function facts(cell) {
  const result = cell.shown;
  const many = cell.rounds > 1;
  const of = many ? ` (worst of ${cell.rounds} rounds)` : "";
  const total = many ? ` (all ${cell.rounds} rounds)` : "";
  const overlap = Object.entries(cell.overlap).map(([view, time]) => [view, ms(time), time > 0]);
  const stale = Object.entries(cell.stale).map(([resource, { tried, accepted }]) => [
    resource,
    `${tried} tried, ${accepted} taken`,
    accepted > 0 && resource !== "unfenced",
  ]);
  const times = [
    ["fail-over", spreadOf(cell.failover)],
    ["promised bound", ms(cell.bound)],
    ["hand-over", spreadOf(cell.handover)],
    ["longest without a leader", ms(cell.without_leader)],
    ["least margin", ms(cell.margin), cell.margin < 0],
  ];
  const { injected, versions, machine } = result;
  const run = [
    ["fault", injected ? `${injected.target}, ${ms(injected.from)} to ${ms(injected.until ?? result.length)}` : "not injected"],
    ["seen", injected?.confirmed ?? "–"],
    ["breaks", cell.breaks.join(", ") || "nothing", cell.breaks.length > 0],
    ["set-up", `${result.nodes === null ? "" : `${result.nodes} ${result.nodes === 1 ? "node" : "nodes"}, `}TTL ${result.ttl} s, by ${result.candidate}`],
    ["versions", [...new Set(Object.entries(versions).filter(([, v]) => v).map(([k, v]) => (k === "server" || k === "client" ? `${v}` : `${k} ${v}`)))].join(", ")],
    ["machine", Object.entries(machine).map(([k, v]) => (k === "system" ? `${v}` : `${v} ${k}`)).join(", ")],
    ["when", `${result.started}, round ${result.round}, ${cell.origin === "own" ? "your run" : "the reference run"}`],
  ];
  if (many)
    run.unshift(["rounds", Object.entries(cell.verdicts).map(([v, n]) => `${n} ${word(v)}`).join(", ")]);
  const again = element("div", { class: "wide" }, element("strong", { class: "small" }, "Again, with the same seed"), element("pre", {}, result.command));
  return [factTable(`Two at once${of}`, overlap), factTable(`Stale writes${total}`, stale), factTable("Times", times), factTable("The run", run, { class: "wide" }), again];
}

function spreadOf(times) {
  if (times.length < 2) return ms(times[0]);
  const sorted = [...times].sort((a, b) => a - b);
  return `${ms(sorted[0])} to ${ms(sorted.at(-1))}, median ${ms(middle(sorted))}`;
}

function middle(sorted) {
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

function factTable(title, rows, attributes = {}) {
  const body = element("tbody");
  for (const [label, text, bad] of rows)
    body.append(element("tr", {}, element("th", { scope: "row" }, label), element("td", bad ? { class: "bad" } : {}, text)));
  return element("table", attributes, element("caption", {}, title), body);
}

function asTable(result) {
  const rows = [];
  for (const [view, lanes] of Object.entries(result.lanes))
    for (const lane of lanes)
      rows.push([lane.from, lane.until, view, lane.candidate, lane.token === null ? "no token" : `token ${lane.token}`]);
  for (const mark of result.marks)
    rows.push([mark.at, undefined, mark.kind.replaceAll("_", " "), mark.candidate ?? "–", markText(mark)]);
  rows.sort((a, b) => a[0] - b[0]);
  const body = element("tbody");
  for (const [from, until, ...rest] of rows) {
    const end = until === undefined ? "" : until === null ? "the end" : ms(until);
    const texts = [...rest].map((text) => element("td", {}, text));
    body.append(element("tr", {}, element("td", { class: "number" }, ms(from)), element("td", { class: "number" }, end), ...texts));
  }
  const heads = ["from", "until", "what", "who", ""].map((text) => element("th", { scope: "col" }, text));
  return element("table", { class: "plain" }, element("thead", {}, element("tr", {}, ...heads)), body);
}

function markText(mark) {
  const text = mark.text ?? "";
  return (mark.count ?? 1) > 1 ? `${text} (${mark.count} times)` : text;
}

// Once all three parts are there.
queueMicrotask(() => {
  drawSpreads();
  const key = decodeURIComponent(location.hash.slice(1));
  if (cells.has(key)) open(key);
});
