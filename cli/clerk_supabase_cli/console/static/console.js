// Keeps the page up to date: panels are replaced, new rows are put on top of the list. All HTML comes escaped from the server.
"use strict";

const LISTED = 100; // rows in the list, as in hub.py
const FEW = 12; // so many new rows at once are highlighted
const IN_A_FRAME = 20; // rows added between two frames, so that no frame is late
const live = document.getElementById("live");
const words = document.getElementById("live-words");
const pause = document.getElementById("pause");
const rows = document.getElementById("rows");
const told = document.getElementById("told");
const noRows = document.getElementById("no-rows");
const held = new Map(); // the newest HTML of panels that somebody uses right now
let version = live.dataset.version;
let toAdd = []; // rows on their way into the list, newest first
let waiting = []; // HTML of rows that arrived during a pause
let source = null;

function parsed(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

// A form that is open or in use is not taken away.
function inUse(panel) {
  return panel.querySelector("details.asked[open]") !== null || panel.contains(document.activeElement);
}

function show(name, html) {
  const panel = document.querySelector(`[data-panel="${CSS.escape(name)}"]`);
  if (!panel) return;
  if (inUse(panel)) {
    held.set(name, html);
    return;
  }
  held.delete(name);
  const left = panel.querySelector(".scroll")?.scrollTop ?? 0;
  const open = [...panel.querySelectorAll("details[data-keep][open]")].map((each) => each.dataset.keep);
  panel.replaceChildren(parsed(html));
  for (const each of panel.querySelectorAll("details[data-keep]")) each.open = open.includes(each.dataset.keep);
  const scroll = panel.querySelector(".scroll");
  if (scroll) scroll.scrollTop = left;
  if (name === "verdict") tellHeadline();
}

// The headline is read out when it changes, and only then.
function tellHeadline() {
  const headline = document.getElementById("verdict-words").textContent;
  if (told.textContent !== headline) told.textContent = headline;
}

function showHeld() {
  for (const [name, html] of [...held]) show(name, html);
}

function add(html) {
  const fresh = [...parsed(html).children].slice(0, LISTED);
  if (fresh.length <= FEW) for (const row of fresh) row.classList.add("fresh");
  // What is still to be added is older than these, and what would leave the list again is never added.
  toAdd = [...fresh, ...toAdd].slice(0, LISTED);
  if (toAdd.length === fresh.length) requestAnimationFrame(addSome);
  for (const way of document.querySelectorAll(".way")) {
    way.classList.remove("beat");
    requestAnimationFrame(() => way.classList.add("beat"));
  }
}

// The oldest first, on top.
function addSome() {
  rows.prepend(...toAdd.splice(-IN_A_FRAME));
  while (rows.children.length > LISTED) rows.lastElementChild.remove();
  tellRows();
  if (toAdd.length > 0) requestAnimationFrame(addSome);
}

function tellRows() {
  noRows.hidden = rows.children.length > 0;
  rows.parentElement.hidden = !noRows.hidden;
}

function tell(state, text) {
  live.dataset.state = state;
  if (words.textContent !== text) words.textContent = text;
}

function connect() {
  if (source) return;
  source = new EventSource(`stream?after=${encodeURIComponent(version)}`);
  source.addEventListener("open", () => tell("live", "live"));
  source.addEventListener("panel", (event) => {
    version = event.lastEventId;
    const { name, html } = JSON.parse(event.data);
    show(name, html);
  });
  source.addEventListener("rows", (event) => {
    version = event.lastEventId;
    const { html } = JSON.parse(event.data);
    if (pause.getAttribute("aria-pressed") === "true") waiting = [html, ...waiting].slice(0, LISTED);
    else add(html);
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) tell("lost", "ended: open the address that the console printed");
    else tell("lost", "not live: the console does not answer");
  });
}

function disconnect() {
  source?.close();
  source = null;
}

pause.hidden = false;
pause.addEventListener("click", () => {
  const on = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", String(on));
  pause.textContent = on ? "Continue" : "Pause";
  if (!on) {
    for (const html of waiting.reverse()) add(html);
    waiting = [];
  }
});
document.addEventListener("focusout", () => setTimeout(showHeld));
document.addEventListener("toggle", () => setTimeout(showHeld), true);
// A page that nobody sees asks for nothing, and learns everything at once when it is seen again.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
tellRows();
if (!document.hidden) connect();
