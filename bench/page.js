// Draws the plots of the benchmarks' page, in the colours of the hour, lets the key show and hide lines, and sorts tables.
"use strict";

const plots = JSON.parse(document.getElementById("plots").textContent);
const byTouch = matchMedia("(pointer: coarse)").matches; // where dragging has to scroll the page
const buttons = [["toImage"], ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]];
const config = { responsive: true, displaylogo: false, displayModeBar: byTouch ? false : "hover", modeBarButtons: buttons };

// Return the same data, with the colours that the style sheet has now in place of their names.
function coloured(data, colours) {
  if (typeof data === "string") {
    const name = /^var\((--[\w-]+)\)$/.exec(data);
    return name ? colours.getPropertyValue(name[1]).trim() : data;
  }
  if (Array.isArray(data)) return data.map((each) => coloured(each, colours));
  if (data === null || typeof data !== "object") return data;
  return Object.fromEntries(Object.entries(data).map(([key, each]) => [key, coloured(each, colours)]));
}

function draw(place) {
  const { traces, layout } = coloured(plots[place.dataset.plot], getComputedStyle(document.documentElement));
  if (byTouch) layout.dragmode = false;
  return Plotly.react(place, traces, layout, config);
}

const places = [...document.querySelectorAll("[data-plot]")];

// From the top, so that the first ones can be read while the others are drawn.
async function drawInTurn() {
  for (const place of places) {
    await draw(place);
    await new Promise((goOn) => { setTimeout(goOn); });
  }
}

let drawn = drawInTurn();
const drawAll = () => { drawn = Promise.all(places.map(draw)); }; // at once: paper does not wait
for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", drawAll);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));

// The key: a click shows or hides what it names in all panels of the chart; a double click shows that alone, or all again.
function show(figure, isShown) {
  for (const button of figure.querySelectorAll(".key button")) {
    button.setAttribute("aria-pressed", isShown(button));
  }
  const hidden = new Set([...figure.querySelectorAll(".key [aria-pressed=false]")].map((button) => button.dataset.name));
  for (const place of figure.querySelectorAll("[data-plot]")) {
    for (const trace of plots[place.dataset.plot].traces) trace.visible = !hidden.has(trace.name);
    draw(place);
  }
}

const pressed = (button) => button.getAttribute("aria-pressed") === "true";

for (const button of document.querySelectorAll(".key button")) {
  const figure = button.closest("figure");
  button.addEventListener("click", () => show(figure, (each) => pressed(each) !== (each === button)));
  button.addEventListener("dblclick", () => {
    const alone = [...figure.querySelectorAll(".key button")].every((each) => pressed(each) === (each === button));
    show(figure, (each) => alone || each === button);
  });
}

// Tables: a click on a head sorts by its column, another the other way round. Sizes count as bytes; text comes last.
const UNITS = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, M: 1e6 };

function sortKey(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = /^([\d.,]+) ?(KiB|MiB|GiB|M\b)?/.exec(text);
  return [number ? Number(number[1].replaceAll(",", "")) * (UNITS[number[2]] ?? 1) : Infinity, text];
}

function sort(head) {
  const down = head.ariaSort === "ascending";
  const body = head.closest("table").tBodies[0];
  const rows = [...body.rows].map((row) => [...sortKey(row, head.cellIndex), row]);
  const order = ([a, aText], [b, bText]) => (a === b ? aText.localeCompare(bText) : a < b ? -1 : 1);
  rows.sort((one, other) => (down ? order(other, one) : order(one, other)));
  for (const each of head.parentElement.cells) each.ariaSort = null;
  head.ariaSort = down ? "descending" : "ascending";
  body.append(...rows.map(([, , row]) => row));
}

for (const head of document.querySelectorAll("thead th")) head.addEventListener("click", () => sort(head));
