// One round as swim lanes: who led in the store, by belief, in effect; the fault; what was written.

const VIEWS = ["store", "belief", "effect"];
const TOP = 46;
const ROW = 20;
const HEAD = 22;
const GAP = 6;

// kind → the lane it stands in, its shape around 0,0, its class.
const MARKS = {
  elected: ["belief", "M0 -5 5 4 -5 4Z", ""],
  lost: ["belief", "M0 5 5 -4 -5 -4Z", "bad"],
  released: ["belief", "M-5 0 4 -5 4 5Z", ""],
  started: ["effect", "M0 -4.5A4.5 4.5 0 1 1 0 4.5 4.5 4.5 0 1 1 0 -4.5Z", ""],
  exited: ["effect", "M-4 -4H4V4H-4Z", ""],
  accepted: ["effect", "M-5 -3 -3 -5 0 -2 3 -5 5 -3 2 0 5 3 3 5 0 2 -3 5 -5 3 -2 0Z", "bad"],
  refused: ["effect", "M0 -6 5 -4V0C5 3 3 5 0 6.5 -3 5 -5 3 -5 0V-4Z", "good"],
  lost_checkpoint: ["effect", "M0 -6 6 0 0 6 -6 0Z", "bad"],
};
const OTHER = ["effect", "M0 -4 4 0 0 4 -4 0Z", ""];
const MARK_WORDS = {
  accepted: "stale write taken",
  refused: "stale write refused",
  lost_checkpoint: "checkpoint lost",
  started: "command started",
  exited: "command exited",
  undone: "fault undone",
};
const markWord = (kind) => MARK_WORDS[kind] ?? kind.replaceAll("_", " ");

class Timeline {
  constructor(svg, result, by) {
    this.svg = svg;
    this.result = result;
    this.by = by;
    this.onWindow = () => {};
    const ends = Object.values(result.lanes).flat().map((lane) => lane.until ?? 0);
    this.end = Math.max(result.length, 1, ...ends, ...result.marks.map((mark) => mark.at));
    this.from = 0;
    this.until = this.end;
    const lanes = [...result.lanes.effect, ...result.lanes.belief, ...result.lanes.store];
    this.candidates = [...new Set(lanes.map((lane) => lane.candidate))].sort();
    this.overlaps = Object.fromEntries(VIEWS.map((view) => [view, overlapsOf(this.lanes(view), this.end)]));
    svg.setAttribute("aria-label", this.summary());
    svg.onpointerdown = (event) => this.grab(event);
    svg.onwheel = (event) => this.wheel(event);
  }

  lanes(view) {
    return this.result.lanes[view].map((lane) => ({ ...lane, view, to: lane.until ?? this.end }));
  }

  // The rows from top to bottom, in groups.
  groups() {
    if (this.by === "view")
      return VIEWS.map((view) => [view, this.candidates.map((candidate) => ({ candidate, view, label: candidate }))]);
    return this.candidates.map((candidate) => [candidate, VIEWS.map((view) => ({ candidate, view, label: view }))]);
  }

  summary() {
    const two = VIEWS.filter((view) => this.overlaps[view].length);
    const acts = this.lanes("effect").map((lane) => `${lane.candidate} from ${ms(lane.from)} to ${ms(lane.to)}`);
    return `Timeline. Acting: ${acts.join(", ") || "nobody"}. Two at once: ${two.join(", ") || "never"}. The table below has all of it.`;
  }

  x(time) {
    return this.left + ((time - this.from) / (this.until - this.from)) * (this.width - this.left - 12);
  }

  draw() {
    this.width = this.svg.clientWidth;
    if (!this.width) return;
    this.left = this.width < 560 ? 62 : 104;
    let y = TOP;
    const places = new Map();
    const ground = [];
    for (const [name, rows] of this.groups()) {
      ground.push(drawn("text", { x: 10, y: y + 15, class: "name" }, short(name, this.width < 560 ? 40 : 60)));
      y += HEAD;
      for (const row of rows) {
        places.set(`${row.view}/${row.candidate}`, y);
        ground.push(drawn("rect", { x: this.left, y, width: this.width - this.left - 12, height: ROW - 2, class: "row", rx: 2 }));
        ground.push(drawn("text", { x: 16, y: y + 13, class: "quiet-text" }, short(row.label, this.width < 560 ? 7 : 14)));
        y += ROW;
      }
      y += GAP;
    }
    this.height = y + 6;
    const clip = drawn("clipPath", { id: "plot" });
    clip.append(drawn("rect", { x: this.left, y: 0, width: this.width - this.left - 12, height: this.height }));
    const plot = drawn("g", { "clip-path": "url(#plot)" });
    plot.append(...this.band(), ...this.bars(places), ...this.marks(places));
    this.svg.setAttribute("height", this.height);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.replaceChildren(clip, ...ground, ...this.axis(), plot);
    this.onWindow(`${seconds(this.from)} to ${seconds(this.until)}`);
  }

  axis() {
    const made = [];
    const step = nice((this.until - this.from) / Math.max(2, (this.width - this.left) / 90));
    for (let time = Math.ceil(this.from / step) * step; time <= this.until; time += step) {
      const x = this.x(time);
      made.push(drawn("line", { x1: x, x2: x, y1: 22, y2: this.height - 6, class: "rule" }));
      const anchor = x > this.width - 34 ? "end" : x < this.left + 12 ? "start" : "middle";
      made.push(drawn("text", { x, y: 15, "text-anchor": anchor, class: "quiet-text" }, label(time, step)));
    }
    return made;
  }

  band() {
    const { injected, fault } = this.result;
    if (!injected) return [];
    const until = injected.until ?? this.end;
    const [x1, x2] = [this.x(injected.from), this.x(until)];
    const tip = `${fault} on ${injected.target}\n${ms(injected.from)} to ${ms(until)}\n${injected.confirmed ?? ""}`;
    const made = [
      drawn("rect", { x: x1, y: 22, width: Math.max(1.5, x2 - x1), height: this.height - 28, class: "band", "data-tip": tip }),
      drawn("line", { x1, x2: x1, y1: 22, y2: this.height - 6, class: "band-edge" }),
      drawn("line", { x1: x2, x2, y1: 22, y2: this.height - 6, class: "band-edge" }),
    ];
    if (x2 > this.left && x1 < this.width - 12) {
      const text = `${fault} on ${injected.target}`;
      const at = Math.max(x1, this.left) + 5;
      const room = text.length * 6.8;
      const fits = at + room < this.width - 12;
      made.push(drawn("text", { x: fits ? at : this.width - 16, y: 37, "text-anchor": fits ? "start" : "end", class: "band-text" }, text));
    }
    return made;
  }

  bars(places) {
    const made = [];
    for (const view of VIEWS) {
      for (const lane of this.lanes(view)) {
        const y = places.get(`${view}/${lane.candidate}`);
        const [x1, x2] = [this.x(lane.from), this.x(lane.to)];
        if (x2 < this.left || x1 > this.width) continue;
        const token = lane.token === null ? "no token" : `token ${lane.token}`;
        const until = lane.until === null ? "the end of the round" : ms(lane.until);
        const tip = `${lane.candidate}: ${view}, ${token}\n${ms(lane.from)} to ${until}`;
        const box = { x: x1, y: y + 1, width: Math.max(2, x2 - x1), height: ROW - 4, rx: 2.5 };
        made.push(drawn("rect", { ...box, class: `bar ${view}`, "data-tip": tip }));
        for (const [from, to, others] of this.overlaps[view]) {
          const [start, stop] = [Math.max(from, lane.from), Math.min(to, lane.to)];
          if (stop <= start || !others.has(leadership(lane))) continue;
          const [o1, o2] = [this.x(start), this.x(stop)];
          const told = `two at once: ${view}, for ${ms(to - from)}\n${ms(from)} to ${ms(to)}\n${tip}`;
          made.push(drawn("rect", { x: o1, y: y + 1, width: Math.max(2, o2 - o1), height: ROW - 4, class: "overlap", "data-tip": told }));
        }
        const [start, stop] = this.clear(view, lane);
        if (stop - start > token.length * 6.5 + 22)
          made.push(drawn("text", { x: start + 12, y: y + 13, class: `bar-text ${view}` }, token));
      }
    }
    return made;
  }

  // The widest part of a bar that is seen and that no overlap covers: room for its token.
  clear(view, lane) {
    const cuts = this.overlaps[view].filter(
      ([from, to, those]) => those.has(leadership(lane)) && to > lane.from && from < lane.to,
    );
    const edges = [lane.from, ...cuts.flatMap(([from, to]) => [from, to]), lane.to];
    let widest = [0, 0];
    for (let i = 0; i + 1 < edges.length; i += 2) {
      const part = [Math.max(this.x(edges[i]), this.left), Math.min(this.x(edges[i + 1]), this.width - 12)];
      if (part[1] - part[0] > widest[1] - widest[0]) widest = part;
    }
    return widest;
  }

  marks(places) {
    const made = [];
    for (const mark of this.result.marks) {
      const [view, shape, kind] = MARKS[mark.kind] ?? OTHER;
      const row = places.get(`${view}/${mark.candidate}`);
      if (row === undefined) continue; // the fault and its end: they are the band
      const tip = [`${markWord(mark.kind)}: ${mark.candidate}, at ${ms(mark.at)}`, markText(mark)].join("\n");
      const x = this.x(mark.at);
      made.push(drawn("path", { d: shape, transform: `translate(${x} ${row + ROW / 2 - 1})`, class: `mark ${kind}`, "data-tip": tip.trim() }));
    }
    return made;
  }

  legend() {
    const items = VIEWS.map((view) => [`swatch ${view}`, null, view]);
    if (this.anyOverlap()) items.push(["swatch overlap", null, "two at once"]);
    if (this.result.injected) items.push(["swatch band", null, "the fault"]);
    for (const kind of Object.keys(MARKS))
      if (this.result.marks.some((mark) => mark.kind === kind)) items.push([`mark ${MARKS[kind][2]}`, MARKS[kind][1], markWord(kind)]);
    return items.map(([kind, shape, text]) => {
      const icon = drawn("svg", { viewBox: "-9 -7 18 14", "aria-hidden": "true" });
      icon.append(shape ? drawn("path", { d: shape, class: kind }) : drawn("rect", { x: -8, y: -5, width: 16, height: 10, rx: 2, class: kind }));
      return element("li", {}, icon, text);
    });
  }

  // What is seen of it ----------------------------------------------------------------------------

  show(from, until) {
    const span = Math.min(Math.max(until - from, 20), this.end);
    this.from = Math.min(Math.max(0, from), this.end - span);
    this.until = this.from + span;
    this.draw();
  }

  zoom(factor, around = (this.from + this.until) / 2) {
    this.show(around - (around - this.from) * factor, around + (this.until - around) * factor);
  }

  pan(part) {
    const by = (this.until - this.from) * part;
    this.show(this.from + by, this.until + by);
  }

  all() {
    this.show(0, this.end);
  }

  fault() {
    const { injected } = this.result;
    if (injected) this.around(injected.from, injected.until ?? this.end);
  }

  overlap() {
    const all = Object.values(this.overlaps).flat();
    if (all.length) this.around(Math.min(...all.map(([from]) => from)), Math.max(...all.map(([, to]) => to)));
  }

  anyOverlap() {
    return VIEWS.some((view) => this.overlaps[view].length);
  }

  around(from, until) {
    const aside = Math.max(50, (until - from) * 0.2);
    this.show(from - aside, until + aside);
  }

  group(by) {
    this.by = by;
    this.draw();
  }

  timeAt(clientX) {
    const x = clientX - this.svg.getBoundingClientRect().left;
    return this.from + ((x - this.left) / (this.width - this.left - 12)) * (this.until - this.from);
  }

  grab(event) {
    if (event.button !== 0) return;
    const [start, from, until] = [event.clientX, this.from, this.until];
    const scale = (until - from) / (this.width - this.left - 12);
    this.svg.setPointerCapture(event.pointerId);
    this.svg.classList.add("dragged");
    this.svg.onpointermove = (moved) => {
      const by = (start - moved.clientX) * scale;
      this.show(from + by, until + by);
    };
    this.svg.onpointerup = this.svg.onpointercancel = () => {
      this.svg.onpointermove = null;
      this.svg.classList.remove("dragged");
    };
  }

  // A wheel with Ctrl (or a pinch) zooms, one to the side pans; otherwise the dialog scrolls.
  wheel(event) {
    if (event.ctrlKey || event.metaKey) this.zoom(event.deltaY < 0 ? 0.8 : 1.25, this.timeAt(event.clientX));
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.pan(event.deltaX / this.width);
    else return;
    event.preventDefault();
  }
}

const leadership = (lane) => `${lane.candidate}/${lane.token}`;

// Where two leaderships or more were there at once: from, until, which.
function overlapsOf(lanes, end) {
  const edges = [...new Set(lanes.flatMap((lane) => [lane.from, lane.to ?? end]))].sort((a, b) => a - b);
  const found = [];
  for (let i = 0; i + 1 < edges.length; i++) {
    const there = new Set(lanes.filter((lane) => lane.from < edges[i + 1] && lane.to > edges[i]).map(leadership));
    if (there.size < 2) continue;
    const last = found.at(-1);
    if (last && last[1] === edges[i] && same(last[2], there)) last[1] = edges[i + 1];
    else found.push([edges[i], edges[i + 1], there]);
  }
  return found;
}

function same(one, other) {
  return one.size === other.size && [...one].every((each) => other.has(each));
}

function nice(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 5, 10].find((factor) => factor * power >= step) * power;
}

function label(time, step) {
  return step < 100 ? `${Math.round(time)} ms` : `${(time / 1000).toFixed(step < 1000 ? 1 : 0)} s`;
}

const seconds = (time) => `${(time / 1000).toFixed(2)} s`;
const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
