"use strict";
// Draws the clips from one clock, and the charts as SVG. No library, no network.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const SVG = "http://www.w3.org/2000/svg";
const shape = (tag, attributes = {}, text = "") => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
};

// ---- Clips ----------------------------------------------------------------------------------------------------------

const HOLD = 0.7; // seconds that the last frame stays
const length = Math.max(1, ...data.scenes.map((scene) => scene.length));
const state = { time: 0, frame: -1, playing: false, speed: 1, sample: 0, overlay: "none" };
const views = []; // what is redrawn when the frame, the future or the overlay changes
const heads = []; // playheads of charts
const waiting = [];

function load(sprite) {
  const image = new Image();
  image.src = sprite.src;
  waiting.push(image.decode());
  return { ...sprite, image };
}

function paint(canvas, sprite, index, size, alpha = 1) {
  const [width, height] = size;
  const at = Math.max(0, Math.min(index, sprite.count - 1));
  const pen = canvas.getContext("2d");
  pen.globalAlpha = alpha;
  pen.drawImage(sprite.image, (at % sprite.columns) * width, Math.floor(at / sprite.columns) * height, width, height, 0, 0, width, height);
  pen.globalAlpha = 1;
}

function canvasOf(scene, label) {
  const [width, height] = scene.size;
  return make("canvas", { width, height, role: "img", "aria-label": label });
}

function drawFuture(canvas, scene, model, sample, frame) {
  const t = frame - scene.context;
  canvas.className = t < 0 ? "context" : "predicted";
  if (t < 0) return paint(canvas, scene.truth, frame, scene.size);
  paint(canvas, model.videos[sample], t, scene.size);
  const map = model.maps[state.overlay];
  if (map) paint(canvas, map[Math.min(sample, map.length - 1)], t, scene.size, 0.85);
}

function addScene(scene) {
  scene.truth = load(scene.truth);
  const row = make("div", { class: "row" });
  const truth = canvasOf(scene, `${scene.title}, truth`);
  const known = scene.truth.count > scene.context;
  row.append(make("figure", { class: "view" }, truth, make("figcaption", {}, known ? "truth" : "given")));
  views.push((frame) => {
    truth.className = frame < scene.context || !known ? "context" : "truth";
    paint(truth, scene.truth, frame, scene.size);
  });
  for (const model of scene.models) {
    model.videos = model.videos.map(load);
    for (const name of Object.keys(model.maps)) model.maps[name] = model.maps[name].map(load);
    const large = canvasOf(scene, `${scene.title}, ${model.name}`);
    const caption = make("figcaption");
    const thumbs = make("div", { class: "thumbs", role: "group", "aria-label": `futures of ${model.name}` });
    const buttons = model.captions.map((text, sample) => {
      const canvas = canvasOf(scene, text);
      const button = make("button", { class: "thumb", type: "button", "aria-pressed": "false" }, canvas, make("span", {}, text));
      button.addEventListener("click", () => choose(sample));
      thumbs.append(button);
      return [button, canvas];
    });
    row.append(make("div", { class: "model" }, make("figure", { class: "view" }, large, caption), thumbs));
    views.push((frame) => {
      const sample = Math.min(state.sample, model.videos.length - 1);
      caption.textContent = `${scene.models.length > 1 ? model.name + ", " : ""}${model.captions[sample]}`;
      drawFuture(large, scene, model, sample, frame);
      buttons.forEach(([button, canvas], number) => {
        button.setAttribute("aria-pressed", String(number === sample));
        drawFuture(canvas, scene, model, number, frame);
      });
    });
  }
  byId("scenes").append(make("div", { class: scene.models.length > 1 ? "scene many" : "scene" }, make("h3", {}, scene.title), row));
}

function draw() {
  const context = data.scenes[0].context;
  views.forEach((view) => view(state.frame));
  byId("scrub").value = state.frame;
  byId("frame").textContent = `frame ${state.frame + 1} of ${length}`;
  byId("scrub").setAttribute("aria-valuetext", `${state.frame + 1} of ${length}, ${state.frame < context ? "given" : "predicted"}`);
  heads.forEach((move) => move(state.frame - context + 1));
}

function seek(frame) {
  state.frame = ((frame % length) + length) % length;
  state.time = state.frame / data.fps;
  draw();
}

function play(on) {
  state.playing = on;
  byId("play").textContent = on ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", String(on));
}

function choose(sample) {
  const count = byId("sample").options.length;
  state.sample = ((sample % count) + count) % count;
  byId("sample").value = String(state.sample);
  draw();
}

function cover(name) {
  state.overlay = name;
  byId("overlay").value = name;
  draw();
}

let last = null;
function tick(now) {
  const passed = last === null ? 0 : Math.min((now - last) / 1000, 0.25);
  last = now;
  if (state.playing) {
    state.time += passed * state.speed;
    if (state.time > length / data.fps + HOLD) state.time = 0;
    const frame = Math.min(Math.floor(state.time * data.fps), length - 1);
    if (frame !== state.frame) {
      state.frame = frame;
      draw();
    }
  }
  requestAnimationFrame(tick);
}

function start() {
  data.scenes.forEach(addScene);
  const models = data.scenes.flatMap((scene) => scene.models);
  const most = models.reduce((a, b) => (b.captions.length > a.captions.length ? b : a));
  most.captions.forEach((text, i) => byId("sample").append(make("option", { value: i }, text)));
  const maps = ["none", ...new Set(models.flatMap((model) => Object.keys(model.maps)))];
  maps.forEach((name) => byId("overlay").append(make("option", { value: name }, name)));
  byId("scrub").max = length - 1;
  byId("play").addEventListener("click", () => play(!state.playing));
  byId("back").addEventListener("click", () => { play(false); seek(state.frame - 1); });
  byId("forward").addEventListener("click", () => { play(false); seek(state.frame + 1); });
  byId("scrub").addEventListener("input", (event) => { play(false); seek(Number(event.target.value)); });
  byId("sample").addEventListener("change", (event) => choose(Number(event.target.value)));
  byId("overlay").addEventListener("change", (event) => cover(event.target.value));
  byId("speed").addEventListener("change", (event) => { state.speed = Number(event.target.value); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input, .scroll")) return;
    if (event.key === " " && event.target.closest("button")) return; // which it presses
    const keys = {
      " ": () => play(!state.playing),
      ArrowLeft: () => { play(false); seek(state.frame - 1); },
      ArrowRight: () => { play(false); seek(state.frame + 1); },
      ArrowUp: () => choose(state.sample - 1),
      ArrowDown: () => choose(state.sample + 1),
      o: () => cover(maps[(maps.indexOf(state.overlay) + 1) % maps.length]),
    };
    if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });
  Promise.all(waiting).then(() => {
    seek(0);
    play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
    document.body.dataset.ready = "true";
    requestAnimationFrame(tick);
  });
}

// ---- Charts ---------------------------------------------------------------------------------------------------------

const W = 380, H = 230, RIGHT = 8, TOP = 8, BOTTOM = 36;

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

function decades(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const m of [1, 2, 5]) if (m * 10 ** power >= low * 0.999 && m * 10 ** power <= high * 1.001) found.push(m * 10 ** power);
  return found;
}

const label = (value) => String(Number(value.toPrecision(4))).replace("-", "−");
const colour = (series) => (series.colour < 0 ? "var(--neutral)" : `var(--c${series.colour % 8})`);

function extent(values, log) {
  const some = values.filter((v) => v !== null && Number.isFinite(v) && (!log || v > 0));
  return [Math.min(...some), Math.max(...some)];
}

function drawChart(figure, chart) {
  const points = chart.series.map((s) => s.y.map((y, i) => [s.x ? s.x[i] : i + 1, y, s.half ? s.half[i] : 0]));
  const every = points.flat().filter((p) => p[1] !== null);
  let [x0, x1] = extent(every.map((p) => p[0]), chart.log);
  let [y0, y1] = extent(every.flatMap((p) => [p[1] - p[2], p[1] + p[2]]), chart.log);
  if (chart.log) [x0, x1, y0, y1] = [x0 / 1.1, x1 * 1.1, y0 / 1.15, y1 * 1.15];
  else {
    const pad = 0.06 * (y1 - y0 || Math.abs(y1) || 1);
    [y0, y1] = [chart.least ?? y0 - pad, chart.most ?? y1 + pad];
  }
  if (x0 === x1) [x0, x1] = [x0 - 0.5, x1 + 0.5];
  const marks = chart.log ? decades(y0, y1) : ticks(y0, y1, 4);
  const LEFT = (chart.y ? 26 : 10) + 6.5 * Math.max(...marks.map((y) => label(y).length));
  const scale = chart.log ? Math.log : (v) => v;
  const px = (x) => LEFT + ((scale(x) - scale(x0)) / (scale(x1) - scale(x0))) * (W - LEFT - RIGHT);
  const py = (y) => H - BOTTOM - ((scale(y) - scale(y0)) / (scale(y1) - scale(y0))) * (H - TOP - BOTTOM);

  const names = chart.series.map((s) => s.name).join(", ");
  const svg = shape("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${chart.title}: ${names} over ${chart.x}` });
  for (const y of marks) {
    svg.append(shape("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: py(y), y2: py(y) }));
    svg.append(shape("text", { x: LEFT - 6, y: py(y) + 4, "text-anchor": "end" }, label(y)));
  }
  for (const x of chart.log ? decades(x0, x1) : ticks(x0, x1, 6))
    svg.append(shape("text", { x: px(x), y: H - BOTTOM + 15, "text-anchor": "middle" }, label(x)));
  svg.append(shape("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: H - BOTTOM, y2: H - BOTTOM }));
  svg.append(shape("text", { x: (LEFT + W - RIGHT) / 2, y: H - 4, "text-anchor": "middle" }, chart.x));
  svg.append(shape("text", { transform: `translate(11 ${(TOP + H - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, chart.y));

  const path = (list, get) => list.map((p, i) => `${i ? "L" : "M"}${px(p[0]).toFixed(1)} ${py(get(p)).toFixed(1)}`).join("");
  const stairs = (list) => {
    const half = list.length > 1 ? (list[1][0] - list[0][0]) / 2 : 0.5;
    return list.map((p, i) => `${i ? "L" : "M"}${px(Math.max(p[0] - half, x0)).toFixed(1)} ${py(p[1]).toFixed(1)}H${px(Math.min(p[0] + half, x1)).toFixed(1)}`).join("");
  };
  chart.series.forEach((series, number) => {
    const list = points[number].filter((p) => p[1] !== null && Number.isFinite(p[1]) && (!chart.log || (p[0] > 0 && p[1] > 0)));
    if (!list.length) return;
    const style = `stroke:${colour(series)}${series.dashed ? ";stroke-dasharray:5 4" : ""}`;
    if (series.half)
      svg.append(shape("path", { class: "band", style: `fill:${colour(series)}`, d: path(list, (p) => p[1] + p[2]) + path([...list].reverse(), (p) => p[1] - p[2]).replace("M", "L") + "Z" }));
    svg.append(shape("path", { class: "line", style, d: chart.steps ? stairs(list) : path(list, (p) => p[1]) }));
    if (list.length === 1 || (chart.log && !series.dashed))
      list.forEach((p) => svg.append(shape("circle", { cx: px(p[0]), cy: py(p[1]), r: 2.6, style: `fill:${colour(series)}` })));
  });

  // A legend that also gives the values under the pointer, or at the clips' frame.
  const legend = make("ul");
  const values = chart.series.map((series) => {
    const key = shape("svg", { viewBox: "0 0 20 8", "aria-hidden": "true" });
    key.append(shape("line", { x1: 0, x2: 20, y1: 4, y2: 4, "stroke-width": 3, style: `stroke:${colour(series)}${series.dashed ? ";stroke-dasharray:5 4" : ""}` }));
    const value = make("b");
    legend.append(make("li", {}, key, series.name, value));
    return value;
  });
  const head = shape("line", { class: "head", y1: TOP, y2: H - BOTTOM, visibility: "hidden" });
  svg.append(head);
  let pointed = false;
  const point = (x) => {
    const inside = x !== null && x >= x0 && x <= x1;
    head.setAttribute("visibility", inside ? "visible" : "hidden");
    if (inside) ["x1", "x2"].forEach((name) => head.setAttribute(name, px(x)));
    values.forEach((value, number) => {
      const near = inside && points[number].find((p) => p[0] === x);
      value.textContent = near && near[1] !== null ? label(near[1]) : "";
    });
  };
  if (chart.over_frames) heads.push((t) => { if (!pointed) point(t); });
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * W;
    const nearest = every.map((p) => p[0]).reduce((a, b) => (Math.abs(px(b) - at) < Math.abs(px(a) - at) ? b : a));
    pointed = true;
    point(nearest);
  });
  svg.addEventListener("pointerleave", () => {
    pointed = false;
    point(chart.over_frames && data.scenes.length ? state.frame - data.scenes[0].context + 1 : null);
  });
  figure.append(make("div", { class: "plot" }, svg, legend));
}

document.querySelectorAll("[data-chart]").forEach((figure) => drawChart(figure, data.charts[Number(figure.dataset.chart)]));
if (data.scenes.length) start();
else document.body.dataset.ready = "true";
