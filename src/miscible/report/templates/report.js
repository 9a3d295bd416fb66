// Draws every figure in the colours of the page's theme, and redraws it when the theme changes or
// a reader shows or hides a model or chooses another view.
"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const config = { displayModeBar: false, responsive: true, showTips: false };

  // Only colour properties are looked up, so that no name in a study can be mistaken for one.
  const isColor = (key) => /color/i.test(key);

  function themed(value, theme, inColor) {
    if (Array.isArray(value)) return value.map((part) => themed(part, theme, inColor));
    if (value !== null && typeof value === "object") {
      const entries = Object.entries(value);
      return Object.fromEntries(
        entries.map(([key, part]) => [key, themed(part, theme, inColor || isColor(key))]),
      );
    }
    const name = inColor && typeof value === "string" && value.match(/^var\((--[\w-]+)\)$/);
    return name ? theme.getPropertyValue(name[1]).trim() : value;
  }

  function current(id) {
    const { data, layout, views } = figures[id];
    if (!views) return { data, layout };
    const div = document.getElementById(id);
    const group = div.closest(".charts").id;
    const lists = document.querySelectorAll(`.selectors[data-group="${group}"] select`);
    const view = views[Array.from(lists, (list) => list.value).join(" ")];
    if (view.layout.height) div.style.height = `${view.layout.height}px`;
    return { data: view.data, layout: { ...layout, ...view.layout } };
  }

  function draw(id) {
    const figure = themed(current(id), getComputedStyle(root), false);
    return Plotly.react(document.getElementById(id), figure.data, figure.layout, config);
  }

  function idle() {
    return new Promise((resolve) => setTimeout(resolve, 0));
  }

  async function drawAll() {
    for (const id of Object.keys(figures)) {
      await draw(id);
      await idle();
    }
    root.dataset.charts = "drawn";
  }

  function show(groupId, group, shown) {
    for (const div of document.getElementById(groupId).querySelectorAll(".plotly-graph-div")) {
      const traces = figures[div.id].data.filter((trace) => trace.meta?.group === group);
      for (const trace of traces) trace.visible = shown;
      if (traces.length) draw(div.id);
    }
  }

  for (const legend of document.querySelectorAll(".legend")) {
    legend.addEventListener("change", (event) => {
      show(legend.dataset.group, event.target.value, event.target.checked);
    });
  }
  for (const selectors of document.querySelectorAll(".selectors")) {
    selectors.addEventListener("change", () => {
      for (const div of document.getElementById(selectors.dataset.group).querySelectorAll(".plotly-graph-div")) {
        if (figures[div.id].views) draw(div.id);
      }
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  addEventListener("beforeprint", () => {
    for (const id of Object.keys(figures)) Plotly.Plots.resize(id);
  });
  drawAll();
})();
