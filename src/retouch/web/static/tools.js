// What the pointer (or the keyboard's cursor) does. A tool gets points {x, y, r, erase} in picture
// coordinates, r being the brush's radius there.

import { capsule, flood, polygon, rectangle } from "./shapes.js";

/**
 * `host`: plane(), value(erase), commit(kind), refresh(), outline(draw), select(point), endSelect(),
 * pick(class), zoom().
 */
export function makeTools(host) {
  return {
    brush: stroke(host, false),
    eraser: stroke(host, true),
    rectangle: drag(host, "rectangle", (plane, points, value) => rectangle(plane, points[0], points.at(-1), value)),
    lasso: drag(host, "lasso", (plane, points, value) => polygon(plane, points.map((p) => [p.x, p.y]), value)),
    polygon: corners(host),
    select: { ...click(host, (point) => host.select(point)), cancel: () => host.endSelect() },
    bucket: click(host, (point) => {
      host.plane().begin();
      flood(host.plane(), Math.floor(point.x), Math.floor(point.y), host.value(point.erase));
      host.commit("bucket");
    }),
    eyedropper: click(host, (point) => host.pick(host.plane().get(Math.floor(point.x), Math.floor(point.y)))),
    hand: { pans: true, down() {}, move() {}, up() {}, cancel() {} },
  };
}

function stroke(host, erases) {
  let last = null;
  const paint = (from, to) => {
    capsule(host.plane(), from, to, host.value(erases || to.erase));
    host.refresh();
  };
  return {
    sized: true,
    down(point) {
      host.plane().begin();
      last = point;
      paint(point, point);
    },
    move(point) {
      if (!last) return;
      paint(last, point);
      last = point;
    },
    up() {
      if (!last) return;
      last = null;
      host.commit(erases ? "eraser" : "brush");
    },
    cancel() {
      if (!last) return;
      last = null;
      const change = host.plane().commit();
      if (change) host.plane().apply(change.before);
      host.refresh();
    },
  };
}

function drag(host, kind, fill) {
  let points = null;
  const draw = (context, view) => {
    if (!points) return;
    const shown = kind === "rectangle" ? box(points[0], points.at(-1)) : points;
    trace(context, view, shown, true);
  };
  const stop = () => {
    points = null;
    host.outline(null);
  };
  return {
    down(point) {
      points = [point];
      host.outline(draw);
    },
    move(point) {
      if (!points) return;
      points.push(point);
      host.outline(draw);
    },
    up() {
      if (!points) return;
      host.plane().begin();
      fill(host.plane(), points, host.value(points[0].erase));
      stop();
      host.commit(kind);
    },
    cancel: stop,
  };
}

function box(a, b) {
  return [a, { x: b.x, y: a.y }, b, { x: a.x, y: b.y }];
}

function corners(host) {
  let points = [];
  let hover = null;
  const draw = (context, view) => {
    trace(context, view, hover ? [...points, hover] : points, points.length > 2);
    if (points.length) dot(context, view, points[0]);
  };
  const close = () => {
    if (points.length > 2) {
      host.plane().begin();
      polygon(host.plane(), points.map((p) => [p.x, p.y]), host.value(points[0].erase));
    }
    const painted = points.length > 2;
    points = [];
    host.outline(null);
    if (painted) host.commit("polygon");
  };
  return {
    down(point) {
      const reach = 10 / host.zoom();
      const near = (other) => other && Math.hypot(other.x - point.x, other.y - point.y) < reach;
      if (points.length > 2 && (near(points[0]) || near(points.at(-1)))) {
        close();
        return;
      }
      points.push(point);
      host.outline(draw);
    },
    move(point) {
      if (!points.length) return;
      hover = point;
      host.outline(draw);
    },
    up() {},
    hovers: true,
    cancel() {
      points = [];
      host.outline(null);
    },
    finish: close,
    get busy() {
      return points.length > 0;
    },
  };
}

function click(host, act) {
  return { down: (point) => act(point), move() {}, up() {}, cancel() {} };
}

function trace(context, view, points, closed) {
  if (points.length < 2) return;
  context.beginPath();
  for (const { x, y } of points) context.lineTo(view.x + x * view.zoom, view.y + y * view.zoom);
  if (closed) context.closePath();
  for (const [color, dash] of [["#000", []], ["#fff", [5, 5]]]) {
    context.setLineDash(dash);
    context.strokeStyle = color;
    context.lineWidth = 1.5 * view.scale;
    context.stroke();
  }
}

function dot(context, view, { x, y }) {
  context.setLineDash([]);
  context.fillStyle = "#fff";
  context.strokeStyle = "#000";
  context.beginPath();
  context.arc(view.x + x * view.zoom, view.y + y * view.zoom, 5 * view.scale, 0, 7);
  context.fill();
  context.stroke();
}
