"use strict";
// All texts that come from guests and builds are set as text, never as HTML.

const EVERY = 2000;
const GIB = 2 ** 30;
const WINDOW = 300;
const ENDS = {
  paired: (label) => `Paired with ${label}.`,
  expired: () => "The time is over. Show another code to try again.",
  wrong_codes: () => "Too many wrong codes. Show another code to try again.",
};

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

function showBuild(build) {
  const percent = build.percent === null ? "" : ` ${Math.round(build.percent)} %`;
  const ahead = build.ahead === null ? "" : build.ahead === 0 ? ", next" : `, ${build.ahead} before it`;
  const about = `for ${build.guest}, ESPHome ${build.esphome_version}: ${build.stage}${percent}${ahead}`;
  const item = element("li", {}, element("div", {}, build.device, element("small", { textContent: about })));
  if (build.percent !== null) {
    item.append(element("progress", { max: 100, value: build.percent, ariaLabel: build.stage }));
  }
  return item;
}

function showGuest(guest) {
  const seen = guest.last_seen === null ? "Never connected" : `Last seen ${new Date(guest.last_seen).toLocaleString()}`;
  const about = `${guest.connected ? "Connected" : seen}, builds: ${guest.builds}`;
  const actions = element("span", {});
  const act = (text, then, className = "") =>
    actions.append(element("button", { type: "button", textContent: text, className, onclick: then, ariaLabel: `${text} (${guest.label})` }));
  if (asked.has(guest.pin_sha256)) {
    act("Remove for good", () => {
      asked.delete(guest.pin_sha256);
      change(`guests/${guest.pin_sha256}`, "DELETE");
    }, "bad");
    act("Keep", () => { asked.delete(guest.pin_sha256); update(); });
  } else {
    act("Remove", () => { asked.add(guest.pin_sha256); update(); });
  }
  return element("li", {}, element("div", {}, guest.label, element("small", { textContent: about })), actions);
}

function showStatus(status) {
  byId("name").textContent = status.name;
  byId("state").textContent = status.available ? "Accepts builds" : `Accepts no builds: ${status.why_not}`;
  byId("slots").textContent = `${status.busy} of ${status.slots} at the same time, ${status.queued} waiting`;
  replace("builds", status.builds.map(showBuild));
  replace("guests", status.guests.map(showGuest));
  byId("no-guests").hidden = status.guests.length > 0;
  const free = status.disk_free_mib === null ? "" : `, ${(status.disk_free_mib / 1024).toFixed(1)} GiB free`;
  const facts = [
    ["Disk", `${(status.disk_used / GIB).toFixed(1)} of ${(status.disk_limit / GIB).toFixed(0)} GiB used by builds${free}`],
    ["ESPHome", status.toolchains.join(", ") || "none yet; the first build installs it"],
    ["Compiler cache", status.ccache ? `had ${status.ccache_hits} of ${status.ccache_files} files since the start` : "comes with the first ESPHome version"],
    ["Containment", status.containment_text],
    ["Version", status.version],
    ["Port", `${status.port}`],
    ["Pin", status.pin_sha256],
  ];
  replace("machine", facts.flatMap(([name, text]) => [
    element("dt", { textContent: name }), element("dd", { textContent: text }),
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
  const end = ENDS[pairing.end]?.(pairing.newest_guest);
  byId("ended").hidden = end === undefined;
  byId("ended").textContent = end ?? "";
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
  byId("time").textContent = `Time left ${left}, tries left ${opened.tries}`;
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
    byId("problem").textContent = `The builder does not answer (${error.message}). This page tries again.`;
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
