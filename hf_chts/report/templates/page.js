"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

/* Light or dark: the reader's system decides until the button is used. */
const themeButton = document.getElementById("theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const remembered = {
  get: () => { try { return localStorage.getItem("hf-chts-theme"); } catch { return null; } },
  set: (theme) => { try { localStorage.setItem("hf-chts-theme", theme); } catch { /* private window */ } },
};
const isDark = () => (document.documentElement.dataset.theme ?? (systemDark.matches ? "dark" : "light")) === "dark";
const showTheme = () => { themeButton.textContent = isDark() ? "Light" : "Dark"; };
if (["light", "dark"].includes(remembered.get())) document.documentElement.dataset.theme = remembered.get();
themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  remembered.set(document.documentElement.dataset.theme);
  showTheme();
});
systemDark.addEventListener("change", showTheme);
showTheme();

/* Tables sort by a column: numbers by value, undefined ones last either way. */
const keyOf = (row, column) => row.cells[column].dataset.value;
for (const table of all("table.sortable")) {
  const heads = all("thead th", table);
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const rising = head.getAttribute("aria-sort") === "descending" || (column === 0 && head.getAttribute("aria-sort") === "none");
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const rows = all("tbody tr", table);
    rows.sort((a, b) => {
      const [x, y] = [keyOf(a, column), keyOf(b, column)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return rising ? x - y : y - x;
    });
    table.tBodies[0].append(...rows);
  }));
}

/* One layer at a time; both choices of layer go together. */
const choices = all("select.layer-choice");
const articles = all("article[data-layer]");
let layer = "0";
const showLayer = (index) => {
  layer = index;
  for (const choice of choices) choice.value = index;
  for (const article of articles) article.hidden = article.dataset.layer !== index;
  showStep();
};
for (const choice of choices) choice.addEventListener("change", () => showLayer(choice.value));

/* Orders of rows and columns. */
for (const figure of all("figure.orders")) {
  const pictures = all(".order", figure);
  const show = (index) => pictures.forEach((picture, i) => { picture.hidden = i !== index; });
  for (const radio of all("input[type=radio]", figure)) radio.addEventListener("change", () => show(Number(radio.value)));
  show(0);
}

/* The slider over snapshots. */
const evolution = JSON.parse(document.getElementById("evolution-data").textContent);
const slider = document.getElementById("step");
function showStep() {
  if (!slider) return;
  const at = Number(slider.value), step = evolution.steps[at];
  const { pictures, counts } = evolution.layers[Number(layer)];
  const article = document.querySelector(`article.evolution[data-layer="${layer}"]`);
  article.querySelector(".matrix img").src = pictures[at];
  all(".counts td", article).forEach((cell, i) => { cell.textContent = counts[at][i]; });
  for (const line of all('.degrees g[id*="-step-"]', article)) line.classList.toggle("now", line.id.endsWith(`-step-${step}`));
  document.getElementById("step-shown").textContent = step.toLocaleString("en");
  slider.setAttribute("aria-valuetext", `step ${step}`);
}
if (slider) {
  const play = document.getElementById("play");
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
  const advance = () => {
    if (Number(slider.value) >= Number(slider.max)) return stop();
    slider.value = Number(slider.value) + 1;
    showStep();
  };
  play.hidden = false;
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (slider.value === slider.max) slider.value = 0;
    showStep();
    timer = setInterval(advance, 700);
    play.textContent = "Pause";
  });
  slider.addEventListener("input", () => { stop(); showStep(); });
}
if (articles.length) showLayer("0");
