// Draws each figure in the colours of the page when it comes into view. Redraws it when the colours
// or the width change.
const figures = [...document.querySelectorAll("[data-figure]")];
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const CONFIG = {
  displaylogo: false, displayModeBar: "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
};
// Widths in pixels: below PHONE panels are stacked, PAPER is the width in print, MODEBAR is the
// column of Plotly's buttons.
const PHONE = 560, PAPER = 680, MODEBAR = 36;
let isPrinting = false;

async function library() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent.trim()), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

// Draw a figure from the JSON in the page, so that nothing remains of an earlier drawing.
function draw(place) {
  const { data, layout } = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  const style = getComputedStyle(place), available = isPrinting ? PAPER : place.parentElement.clientWidth;
  layout.width = isPrinting ? PAPER : place.clientWidth;
  layout.height = isPrinting ? parseFloat(style.getPropertyValue("--height")) : place.clientHeight;
  layout.font = { ...layout.font, color: isPrinting ? "#000000" : style.getPropertyValue("--ink").trim() };
  layout.uirevision = "kept";
  // The buttons are vertical and have their own margin, so they do not cover the legend.
  const margin = layout.margin || {};
  if (available >= PHONE && !isPrinting) layout.margin = { ...margin, r: Math.max(MODEBAR, margin.r || 0) };
  layout.modebar = { orientation: "v", bgcolor: "rgba(0,0,0,0)", color: "#8a929c", activecolor: "#2878b5", ...layout.modebar };
  if (available < PHONE) {
    if (layout.width > available) layout.legend = { ...layout.legend, orientation: "v" };
    else stack(layout);
    breakTitle(layout, available);
  }
  place.dataset.drawn = layout.width;
  return Plotly.react(place, data, layout, CONFIG);
}

// Stack the panels, and move the legend below them, for a phone.
function stack(layout) {
  const axes = Object.keys(layout).filter(key => /^xaxis\d*$/.test(key)).map(key => key.slice(5)).sort();
  const panels = axes.filter(axis => layout["xaxis" + axis].domain).length;
  if (panels > 1) axes.forEach((axis, i) => {
    const gap = 0.36 / panels, height = (1 - gap * (panels - 1)) / panels, top = 1 - i * (height + gap);
    layout["xaxis" + axis].domain = [0, 1];
    layout["yaxis" + axis].domain = [Math.max(0, top - height), top];
    if (layout.annotations && layout.annotations[i]) Object.assign(layout.annotations[i], { x: 0, y: top });
  });
  layout.legend = { ...layout.legend, orientation: "h", y: -0.25 / Math.max(1, panels), yanchor: "top", x: 0, xanchor: "left" };
}

function breakTitle(layout, available) {
  const lines = [""];
  for (const word of ((layout.title || {}).text || "").split(" ")) {
    if ((lines.at(-1) + word).length * 7 > available - 60) lines.push("");
    lines[lines.length - 1] += word + " ";
  }
  layout.title = { ...layout.title, text: lines.join("<br>"), font: { ...(layout.title || {}).font, size: 13 } };
  layout.margin = { ...layout.margin, t: (layout.margin || {}).t + 14 * (lines.length - 1) };
}

function redraw() {
  figures.filter(place => place.dataset.drawn).forEach(draw);
}

if (figures.length) library().then(() => {
  const seen = new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "600px" });
  let pause;
  const sizes = new ResizeObserver(() => {
    clearTimeout(pause);
    pause = setTimeout(() => {
      if (!isPrinting) figures.filter(p => p.dataset.drawn && p.dataset.drawn != p.clientWidth).forEach(draw);
    }, 100);
  });
  for (const place of figures) { seen.observe(place); sizes.observe(place); }
  dark.addEventListener("change", redraw);
  window.addEventListener("beforeprint", () => { isPrinting = true; figures.forEach(draw); });
  window.addEventListener("afterprint", () => { isPrinting = false; redraw(); });
});

// Open all folded parts for print, because nobody can click on paper.
const unfolded = [];
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) { details.open = true; unfolded.push(details); }
});
window.addEventListener("afterprint", () => { for (const details of unfolded.splice(0)) details.open = false; });
