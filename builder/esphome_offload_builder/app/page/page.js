"use strict";
// All texts that come from guests and builds are set as text, never as HTML.

const EVERY = 2000;
const GIB = 2 ** 30;
const WINDOW = 300;
const ENDS = new Set(["paired", "expired", "wrong_codes"]);

const byId = (id) => document.getElementById(id);
const asked = new Set(); // pins of guests whose removal waits for a second click
let opened = null; // {code, ends}: the window as it was seen last

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function request(path, method = "GET") {
  const response = await fetch(path, { method });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response.status === 204 ? null : response.json();
}

function decimal(value, digits) {
  return value.toLocaleString(LANGUAGE, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function showBuild(build) {
  const percent = build.percent === null ? "" : ` ${Math.round(build.percent)} %`;
  const ahead = build.ahead === null ? "" : build.ahead === 0 ? text("next") : text("ahead", build);
  const key = `stage_${build.stage}`;
  const stage = key in TEXTS.en ? text(key) : build.stage;
  const about = text("build", { guest: build.guest, version: build.esphome_version, stage, percent, ahead });
  const item = element("li", {}, element("div", {}, build.device, element("small", { textContent: about })));
  if (build.percent !== null) {
    item.append(element("progress", { max: 100, value: build.percent, ariaLabel: stage }));
  }
  return item;
}

function showGuest(guest) {
  const seen = guest.last_seen === null ? text("never_connected") : text("last_seen", { time: new Date(guest.last_seen).toLocaleString(LANGUAGE) });
  const about = text("guest", { seen: guest.connected ? text("connected") : seen, builds: guest.builds });
  const actions = element("span", {});
  const act = (name, then, className = "") =>
    actions.append(element("button", { type: "button", textContent: name, className, onclick: then, ariaLabel: `${name} (${guest.label})` }));
  if (asked.has(guest.pin_sha256)) {
    act(text("remove_for_good"), () => {
      asked.delete(guest.pin_sha256);
      change(`guests/${guest.pin_sha256}`, "DELETE");
    }, "bad");
    act(text("keep"), () => { asked.delete(guest.pin_sha256); update(); });
  } else {
    act(text("remove"), () => { asked.add(guest.pin_sha256); update(); });
  }
  return element("li", {}, element("div", {}, guest.label, element("small", { textContent: about })), actions);
}

function showStatus(status) {
  byId("name").textContent = status.name;
  byId("state").textContent = status.available ? text("accepts") : text("accepts_none", { reason: status.why_not });
  byId("slots").textContent = text("slots", status);
  replace("builds", status.builds.map(showBuild));
  replace("guests", status.guests.map(showGuest));
  byId("no-guests").hidden = status.guests.length > 0;
  const free = status.disk_free_mib === null ? "" : text("disk_free", { free: decimal(status.disk_free_mib / 1024, 1) });
  const facts = [
    [text("disk"), text("disk_used", { used: decimal(status.disk_used / GIB, 1), limit: decimal(status.disk_limit / GIB, 0), free })],
    ["ESPHome", status.toolchains.join(", ") || text("no_toolchain")],
    [text("cache"), status.ccache ? text("cache_hits", { hits: status.ccache_hits, files: status.ccache_files }) : text("no_cache")],
    [text("containment"), status.containment_text],
    [text("version"), status.version],
    [text("port"), `${status.port}`],
    [text("pin"), status.pin_sha256],
  ];
  replace("machine", facts.flatMap(([name, fact]) => [
    element("dt", { textContent: name }), element("dd", { textContent: fact }),
  ]));
}

// What looks the same stays, so that a button is not taken away while it is pressed.
const shown = new Map();
function replace(id, children) {
  const list = byId(id);
  const looks = children.map((child) => child.outerHTML).join("");
  if (shown.get(id) === looks) return;
  shown.set(id, looks);
  list.replaceChildren(...children);
}

function showPairing(pairing) {
  opened = pairing.code === null ? null : { code: pairing.code, ends: Date.now() + 1000 * pairing.seconds_left, tries: pairing.tries_left };
  const ended = ENDS.has(pairing.end);
  byId("ended").hidden = !ended;
  byId("ended").textContent = ended ? text(pairing.end, { label: pairing.newest_guest }) : "";
  byId("closed").hidden = opened !== null;
  byId("opened").hidden = opened === null;
  if (opened === null) return;
  const middle = opened.code.length / 2;
  byId("code").textContent = `${opened.code.slice(0, middle)} ${opened.code.slice(middle)}`;
  tick();
}

function tick() {
  if (opened === null) return;
  const seconds = Math.max(0, Math.round((opened.ends - Date.now()) / 1000));
  byId("left").max = WINDOW;
  byId("left").value = seconds;
  const left = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  byId("time").textContent = text("time", { time: left, tries: opened.tries });
}

let updating = false;
async function update() {
  if (updating) return;
  updating = true;
  try {
    const [status, pairing] = await Promise.all([request("status"), request("pairing")]);
    showStatus(status);
    showPairing(pairing);
    document.querySelector("main").hidden = false;
    byId("problem").hidden = true;
  } catch (error) {
    byId("problem").textContent = text("no_answer", { error: error.message });
    byId("problem").hidden = false;
  } finally {
    updating = false;
  }
}

async function change(path, method) {
  try {
    await request(path, method);
  } catch (error) {
    console.error(error); // the next update shows what is
  }
  await update();
}

byId("open").onclick = () => change("pairing", "POST");
byId("close").onclick = () => change("pairing", "DELETE");
setInterval(tick, 1000);
setInterval(() => { if (!document.hidden) update(); }, EVERY);
document.addEventListener("visibilitychange", () => { if (!document.hidden) update(); });
update();
