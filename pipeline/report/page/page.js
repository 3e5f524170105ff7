"use strict";
const byId = (id) => document.getElementById(id);

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", async () => {
    const source = byId(button.dataset.copy);
    getSelection().selectAllChildren(source);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

const plane = byId("plane");
if (plane) {
  const dots = [...plane.querySelectorAll(".dot")];
  const place = (dot) => [parseFloat(dot.getAttribute("cx")), parseFloat(dot.getAttribute("cy"))];
  const mark = (kind, places) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(places)) shape.setAttribute(name, value + "%");
    return shape;
  };
  let current = dots[0];

  const show = (dot) => {
    current.setAttribute("tabindex", "-1");
    current = dot;
    dot.setAttribute("tabindex", "0");
    byId("panel-picture").className = "t big t" + dot.dataset.row;
    byId("panel-name").textContent = dot.getAttribute("aria-label");
    byId("panel-key").textContent = dot.dataset.key;
    const [x, y] = place(dot);
    const marks = [], items = [];
    for (const pair of dot.dataset.near.split(" ").filter(Boolean)) {
      const [row, cosine] = pair.split(":");
      const other = dots[row];
      const [otherX, otherY] = place(other);
      marks.push(mark("line", { x1: x, y1: y, x2: otherX, y2: otherY }));
      const item = document.createElement("li"), picture = document.createElement("span");
      picture.className = "t t" + row;
      picture.setAttribute("role", "img");
      picture.setAttribute("aria-label", other.getAttribute("aria-label"));
      item.title = other.getAttribute("aria-label");
      item.append(picture, cosine);
      items.push(item);
    }
    marks.push(mark("circle", { cx: x, cy: y }));
    byId("marks").replaceChildren(...marks);
    byId("panel-near").replaceChildren(...items);
  };

  const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const step = (dot, [dx, dy]) => {
    const [x, y] = place(dot);
    let best = null, least = Infinity;
    for (const other of dots) {
      const [otherX, otherY] = place(other);
      const along = (otherX - x) * dx + (otherY - y) * dy;
      const across = Math.abs((otherX - x) * dy) + Math.abs((otherY - y) * dx);
      if (other !== dot && along > 0 && along + 2 * across < least) [best, least] = [other, along + 2 * across];
    }
    return best;
  };

  for (const dot of dots) {
    dot.addEventListener("pointerenter", () => show(dot));
    dot.addEventListener("focus", () => show(dot));
    dot.addEventListener("click", () => dot.focus());
  }
  const keys = {
    Home: () => dots[0],
    End: () => dots[dots.length - 1],
    PageUp: () => dots[dots.indexOf(current) - 1],
    PageDown: () => dots[dots.indexOf(current) + 1],
  };
  for (const [key, direction] of Object.entries(directions)) keys[key] = () => step(current, direction);
  plane.addEventListener("keydown", (event) => {
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    const next = keys[event.key]();
    if (next) next.focus();
  });
}
