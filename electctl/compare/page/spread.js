// Every measured fail-over and hand-over as a point, a row for each scheme, on a logarithmic scale.

const LINE = 38;
const which = document.getElementById("which");

for (const fault of [...new Set([...cells.values()].filter((cell) => cell.failover.length + cell.handover.length).map((cell) => cell.fault))].sort())
  which.append(element("option", { value: fault }, fault));
which.addEventListener("change", drawSpreads);

function drawSpreads() {
  drawnFor = document.querySelector(".spreads").clientWidth;
  const columns = new Map();
  for (const cell of cells.values()) {
    const key = `${cell.scheme}/${cell.candidate}`;
    if (!columns.has(key)) columns.set(key, []);
    columns.get(key).push(cell);
  }
  const all = [...cells.values()].flatMap((cell) => [...cell.failover, ...cell.handover, cell.bound]);
  for (const svg of document.querySelectorAll("svg.spread"))
    drawSpread(svg, svg.dataset.kind, [...columns.values()], all);
}

function drawSpread(svg, kind, columns, all) {
  const width = svg.clientWidth;
  const left = width < 420 ? 96 : 124;
  const [first, last] = [Math.min(...all, 100) / 1.3, Math.max(...all, 1000) * 1.3].map((time) => Math.log10(Math.max(time, 1)));
  const x = (time) => left + ((Math.log10(Math.max(time, 1)) - first) / (last - first)) * (width - left - 14);
  const height = columns.length * LINE + 26;
  const made = [];
  for (let power = Math.floor(first); power <= last; power++)
    for (const times of (width - left) / (last - first) > 170 ? [1, 2, 5] : [1]) {
      const time = times * 10 ** power;
      const at = x(time);
      if (at < left || at > width - 10) continue;
      made.push(drawn("line", { x1: at, x2: at, y1: 0, y2: height - 20, class: "axis" }));
      made.push(drawn("text", { x: at, y: height - 5, "text-anchor": "middle", class: "quiet-text" }, time < 1000 ? `${time} ms` : `${time / 1000} s`));
    }
  columns.forEach((row, number) => made.push(...line(row, kind, number * LINE + LINE / 2, x, left, width)));
  svg.setAttribute("height", height);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...made);
}

function line(row, kind, y, x, left, width) {
  const made = [drawn("line", { x1: left, x2: width - 14, y1: y, y2: y, class: "rule" })];
  const { scheme, candidate } = row[0];
  const native = candidate !== "electctl";
  made.push(drawn("text", { x: 0, y: y + (native ? -2 : 4) }, scheme));
  if (native) made.push(drawn("text", { x: 0, y: y + 11, class: "quiet-text" }, `by ${candidate}`));
  const chosen = row.filter((cell) => !which.value || cell.fault === which.value);
  const times = chosen.flatMap((cell) => cell[kind]).sort((a, b) => a - b);
  if (!times.length) {
    made.push(drawn("text", { x: left + 6, y: y + 4, class: "quiet-text" }, "nothing measured"));
    return made;
  }
  let count = 0;
  for (const cell of chosen)
    for (const time of cell[kind]) {
      const aside = (((count++ * 7) % 11) - 5) * 2; // so that equal ones are seen beside each other
      const tip = `${ms(time)}\n${nameOf(cell)}`;
      made.push(drawn("circle", { cx: x(time), cy: y + aside, r: 4, class: "point", "data-tip": tip, "data-cell": keyOf(cell) }));
    }
  if (kind === "failover")
    for (const bound of new Set(chosen.filter((cell) => cell.failover.length).map((cell) => cell.bound)))
      made.push(drawn("line", { x1: x(bound), x2: x(bound), y1: y - 16, y2: y + 16, class: "bound", "data-tip": `${scheme}: ${ms(bound)} at most is promised after the crash of a host` }));
  const at = x(middle(times));
  made.push(drawn("line", { x1: at, x2: at, y1: y - 11, y2: y + 11, class: "median", "data-tip": `median ${ms(middle(times))}, of ${times.length}` }));
  return made;
}

let drawnFor = 0;
new ResizeObserver(([entry]) => {
  if (drawnFor !== entry.contentRect.width) drawSpreads();
}).observe(document.querySelector(".spreads"));
