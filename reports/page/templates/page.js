"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const make = (parent, tag, attributes = {}, text = "") => {
    const element = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };

  // Tables: a click on a title sorts the rows between two rules; what has no figure comes last.
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.sort === undefined) return cell.textContent.trim();
    return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
  };
  const sortBy = (table, column, descending) => {
    for (const body of table.tBodies) {
      const rows = [...body.rows].map((row) => [keyOf(row, column), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        const order = typeof a === "number" ? a - b : words.compare(a, b);
        return descending ? -order : order;
      });
      body.append(...rows.map(([, row]) => row));
    }
  };
  for (const holder of document.querySelectorAll(".table")) {
    const table = holder.querySelector("table");
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    const status = make(null, "p", { class: "hidden", role: "status" });
    heads.forEach((head, column) => {
      const title = head.querySelector(".title");
      const button = make(null, "button", { type: "button" });
      title.replaceWith(button);
      button.append(title);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const figures = head.classList.contains("number");
        const before = head.getAttribute("aria-sort");
        const descending = before === "none" ? figures : before === "ascending";
        sortBy(table, column, descending);
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        status.textContent = `Sorted by ${title.textContent.trim()}, ${descending ? "descending" : "ascending"}`;
      });
    });
    holder.append(status);
    if ("filter" in holder.dataset) {
      const bar = make(null, "div", { class: "filter" });
      const input = make(null, "input", { type: "search", id: `${holder.dataset.name}-filter` });
      make(bar, "label", { for: input.id }, "Show rows with");
      const shown = make(null, "output", { for: input.id });
      bar.append(input, shown);
      const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
      const filter = () => {
        const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
        let count = 0;
        for (const row of rows) {
          const text = row.textContent.toLowerCase();
          row.hidden = !wanted.every((word) => text.includes(word));
          count += !row.hidden;
        }
        shown.textContent = `${count} of ${rows.length} rows`;
      };
      input.addEventListener("input", filter);
      filter();
      holder.prepend(bar);
    }
  }

  // Crystals: balls in a cell, drawn from the back to the front, turned by dragging, arrow keys or buttons.
  const STEP = Math.PI / 18;
  const SIZE = 200;
  const PIECES = 6; // of a cell edge, so that it passes behind one atom and before another
  const times = (a, b) => a.map((row) => b[0].map((_, j) => row.reduce((sum, x, k) => sum + x * b[k][j], 0)));
  const about = (axis, angle) => {
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    return axis === "x" ? [[1, 0, 0], [0, c, -s], [0, s, c]] : [[c, 0, s], [0, 1, 0], [-s, 0, c]];
  };
  const apply = (m, [x, y, z]) => m.map((row) => row[0] * x + row[1] * y + row[2] * z);
  const tint = (colour, share, to) => {
    const parts = [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
    return `rgb(${parts.map((part) => Math.round(part + share * (to - part))).join(" ")})`;
  };
  const corner = (cell, [i, j, k]) => [0, 1, 2].map((d) => (i - 0.5) * cell[0][d] + (j - 0.5) * cell[1][d] + (k - 0.5) * cell[2][d]);
  const edges = (cell) => {
    const pieces = [];
    for (const axis of [0, 1, 2]) {
      for (const [u, v] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
        for (let n = 0; n < PIECES; n += 1) {
          pieces.push([n, n + 1].map((m) => {
            const place = [u, v];
            place.splice(axis, 0, m / PIECES);
            return corner(cell, place);
          }));
        }
      }
    }
    return pieces;
  };
  // The third lattice vector stands upright, seen a little from above and from the side.
  const START = times(about("x", 0.32), times(about("y", -0.5), [[1, 0, 0], [0, 0, 1], [0, -1, 0]]));

  const show = (holder, crystal, name) => {
    const svg = make(holder, "svg:svg", {
      viewBox: `${-SIZE / 2} ${-SIZE / 2} ${SIZE} ${SIZE}`, role: "img", tabindex: "0",
      "aria-label": holder.dataset.label, "aria-describedby": `${name}-text`,
    });
    const defs = make(svg, "svg:defs");
    crystal.kinds.forEach((kind, place) => {
      const gradient = make(defs, "svg:radialGradient", { id: `${name}-ball${place}`, cx: "35%", cy: "30%", r: "75%" });
      const stops = [["0", tint(kind.colour, 0.65, 255)], ["0.45", kind.colour], ["1", tint(kind.colour, 0.5, 0)]];
      for (const [offset, colour] of stops) make(gradient, "svg:stop", { offset, "stop-color": colour });
    });
    const layer = make(svg, "svg:g");
    const balls = crystal.atoms.map(([kind, ...place]) => ({
      place, radius: crystal.kinds[kind].radius, element: make(null, "svg:circle", { fill: `url(#${name}-ball${kind})` }),
    }));
    const lines = edges(crystal.cell).map((ends) => ({ ends, element: make(null, "svg:line") }));
    const far = Math.max(
      ...balls.map((ball) => Math.hypot(...ball.place) + ball.radius),
      ...lines.map((line) => Math.hypot(...line.ends[0])),
    );
    const scale = (0.96 * SIZE) / 2 / far;
    let turned = START;
    const draw = () => {
      const depths = [];
      for (const ball of balls) {
        const [x, y, z] = apply(turned, ball.place);
        ball.element.setAttribute("cx", (scale * x).toFixed(2));
        ball.element.setAttribute("cy", (-scale * y).toFixed(2));
        ball.element.setAttribute("r", (scale * ball.radius).toFixed(2));
        depths.push([z, ball.element]);
      }
      for (const line of lines) {
        const [from, to] = line.ends.map((end) => apply(turned, end));
        line.element.setAttribute("x1", (scale * from[0]).toFixed(2));
        line.element.setAttribute("y1", (-scale * from[1]).toFixed(2));
        line.element.setAttribute("x2", (scale * to[0]).toFixed(2));
        line.element.setAttribute("y2", (-scale * to[1]).toFixed(2));
        depths.push([(from[2] + to[2]) / 2, line.element]);
      }
      depths.sort((a, b) => a[0] - b[0]);
      layer.replaceChildren(...depths.map(([, element]) => element));
    };
    const turn = (across, up) => {
      turned = times(about("x", up), times(about("y", across), turned));
      draw();
    };
    const reset = () => { turned = START; draw(); };
    const moves = {
      ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP],
    };
    svg.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in moves) turn(...moves[event.key]);
      else if (event.key === "Home") reset();
      else return;
      event.preventDefault();
    });
    let last = null;
    svg.addEventListener("pointerdown", (event) => {
      last = [event.clientX, event.clientY];
      svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointermove", (event) => {
      if (!last) return;
      turn((event.clientX - last[0]) / 90, (event.clientY - last[1]) / 90);
      last = [event.clientX, event.clientY];
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) svg.addEventListener(end, () => { last = null; });
    const buttons = make(holder, "div", { class: "turn" });
    const signs = { ArrowLeft: ["←", "Turn left"], ArrowUp: ["↑", "Turn up"], ArrowDown: ["↓", "Turn down"], ArrowRight: ["→", "Turn right"] };
    for (const [key, [sign, label]] of Object.entries(signs)) {
      make(buttons, "button", { type: "button", "aria-label": label }, sign).addEventListener("click", () => turn(...moves[key]));
    }
    make(buttons, "button", { type: "button", "aria-label": "Put back" }, "⟲").addEventListener("click", reset);
    draw();
  };
  for (const holder of document.querySelectorAll(".view")) {
    show(holder, JSON.parse(holder.querySelector("script").textContent), holder.dataset.name);
  }
})();
