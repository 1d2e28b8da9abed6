// What moves on a page: the overlay, the sequence, curves under the pointer, tables by column, orders.
// Listens at the document, so that what a server inserts later works like what was there from the start.
(() => {
  const within = (node, selector) => (node instanceof Element ? node.closest(selector) : null);
  let overlay = 85;
  let view = "over"; // what the maps show; like the overlay it outlasts a map that is drawn anew

  function showOverlay(range) {
    overlay = Number(range.value);
    const panel = within(range, ".maps");
    panel.style.setProperty("--dg-overlay", overlay / 100);
    panel.querySelector(".slides output").textContent = `${overlay} %`;
  }

  function showFrame(range) {
    const panel = within(range, ".sequence");
    const n = Number(range.value);
    panel.querySelectorAll(".frame").forEach((frame, index) => frame.classList.toggle("on", index === n));
    panel.querySelector(".slides output").textContent = `n = ${n}`;
    panel.querySelectorAll(".chart svg").forEach((svg) => pointAt(svg, n));
  }

  // Where the values lie; a curve's own points lack those that are not finite.
  const across = (svg) => svg.dataset.across.split(" ").map(Number);

  // The values of every curve at a place on the x axis.
  function pointAt(svg, place) {
    const lines = [...svg.querySelectorAll("polyline")];
    const at = svg.querySelector(".at");
    const places = across(svg);
    if (place < 0 || place >= places.length) return;
    at.setAttribute("x1", places[place]);
    at.setAttribute("x2", places[place]);
    at.removeAttribute("visibility");
    const values = lines.map((line) => `${line.dataset.name}: ${line.dataset.values.split(" ")[place]}`);
    svg.parentElement.querySelector("output").textContent =
      `${svg.dataset.x} ${svg.dataset.places.split(" ")[place]}: ${values.join(", ")}`;
  }

  function nearest(svg, clientX) {
    const box = svg.getBoundingClientRect();
    const x = ((clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const places = across(svg);
    return places.reduce((best, place, index) => (Math.abs(place - x) < Math.abs(places[best] - x) ? index : best), 0);
  }

  function sortBy(button) {
    const head = within(button, "th");
    const body = within(button, "table").tBodies[0];
    const column = [...head.parentElement.children].indexOf(head);
    const upward = head.getAttribute("aria-sort") === "descending";
    const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
    const rows = [...body.rows].sort((first, second) => {
      const [a, b] = [key(first), key(second)];
      const numbers = a !== "" && b !== "" && !Number.isNaN(Number(a)) && !Number.isNaN(Number(b));
      return numbers ? Number(a) - Number(b) : a.localeCompare(b);
    });
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", upward ? "ascending" : "descending");
    body.append(...(upward ? rows : rows.reverse()));
  }

  function order(select) {
    const gallery = document.getElementById(select.dataset.orders);
    const [name, direction] = select.value.split(":");
    const sign = direction === "down" ? -1 : 1;
    const key = (sample) => Number(sample.dataset[name]);
    gallery.append(...[...gallery.children].sort((a, b) => sign * (key(a) - key(b))));
  }

  function copy(button) {
    const text = document.getElementById(button.dataset.copies).textContent;
    const said = (words) => { button.textContent = words; };
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(() => said("Copied"), () => said("Select the text and copy it"));
    else said("Select the text and copy it");
  }

  function enliven() {
    for (const each of document.querySelectorAll(".dg:not(.dg-js)")) each.classList.add("dg-js");
    for (const panel of document.querySelectorAll(".sequence:not(.live)")) {
      panel.classList.add("live");
      showFrame(panel.querySelector(".slides input"));
    }
    for (const range of document.querySelectorAll(".maps:not(.live) input[data-slides]")) {
      within(range, ".maps").classList.add("live");
      range.value = overlay;
      showOverlay(range);
      within(range, ".maps").querySelector(`input[value="${view}"]`).checked = true;
    }
  }

  document.addEventListener("input", ({ target }) => {
    if (target.dataset?.slides === "overlay") showOverlay(target);
    if (target.dataset?.slides === "sequence") showFrame(target);
  });
  document.addEventListener("change", ({ target }) => {
    if (target.dataset?.orders) order(target);
    if (target.name?.startsWith("view-")) view = target.value;
  });
  document.addEventListener("click", ({ target }) => {
    if (within(target, "th button")) sortBy(within(target, "th button"));
    if (within(target, ".copy")) copy(within(target, ".copy"));
    // In the explorer the server answers with more than a larger card.
    if (within(target, "[data-report] .enlarge")) within(target, ".sample").classList.toggle("large");
  });
  document.addEventListener("pointermove", ({ target, clientX }) => {
    const svg = within(target, ".chart svg");
    if (svg && !within(svg, ".sequence")) pointAt(svg, nearest(svg, clientX));
  });
  document.addEventListener("keydown", (event) => {
    const svg = within(event.target, ".chart svg");
    if (!svg || within(svg, ".sequence") || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const last = across(svg).length - 1;
    const place = Number(svg.dataset.place ?? 0) + (event.key === "ArrowRight" ? 1 : -1);
    svg.dataset.place = Math.min(Math.max(place, 0), last);
    pointAt(svg, Number(svg.dataset.place));
    event.preventDefault();
  });
  new MutationObserver(enliven).observe(document.documentElement, { childList: true, subtree: true });
  document.addEventListener("DOMContentLoaded", enliven);
  enliven();
})();
