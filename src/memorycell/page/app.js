// The page: three views, the connection, the theme.

import { Client } from "./client.js";
import { theme } from "./colours.js";
import { announce, fill, h } from "./dom.js";
import { InspectView } from "./inspect.js";
import { LiveView } from "./live.js";
import { StoryView } from "./story.js";

const CONNECTION = { open: "connected", lost: "connection lost, trying again", closed: "closed" };
const VIEWS = { story: StoryView, live: LiveView, inspect: InspectView };

const token = new URLSearchParams(location.search).get("token");
const client = new Client(location.origin, { token });
const views = new Map();

client.onconnection = (state) => {
  const place = document.getElementById("connection");
  place.dataset.state = state;
  place.textContent = CONNECTION[state];
  dispatchEvent(new CustomEvent("connection", { detail: state }));
};

function show() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const known = name in VIEWS ? name : "story";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === known) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!views.has(known)) views.set(known, new VIEWS[known](client));
  const view = views.get(known);
  fill(document.getElementById("main"), view.element);
  view.show(decoded(rest.join("/")));
}

/** Of a part of the address; as it is where it is damaged. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  document.getElementById("theme").textContent = name === "dark" ? "☀" : "☾";
  dispatchEvent(new Event("themechange"));
}

function startTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  setTheme(localStorage.getItem("theme") || (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => {
    if (!localStorage.getItem("theme")) setTheme(dark.matches ? "dark" : "light");
  });
  document.getElementById("theme").addEventListener("click", () => {
    const next = theme() === "dark" ? "light" : "dark";
    localStorage.setItem("theme", next);
    setTheme(next);
    announce(`${next} theme`);
  });
}

startTheme();
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
// A file that is dropped next to its field would replace the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
addEventListener("hashchange", show);
show();
