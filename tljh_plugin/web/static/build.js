// The build page: the log, live while the build goes on; then the page once more, with how it ended.

import { LogView } from "./log.js";
import { xsrf } from "./page.js";
import { follow } from "./stream.js";

const page = document.getElementById("build");
const bar = document.getElementById("bar");
const message = document.getElementById("message");
const log = new LogView(document.getElementById("log"), document.getElementById("log-end"));

await follow(page.dataset.events, {
  xsrf,
  onEvent(type, line) {
    if (line.text) log.append(line.text);
    if (bar && line.progress !== null) bar.value = line.progress;
    if (!["built", "failed", "cancelled"].includes(line.phase)) return false;
    if (page.dataset.active === "1") location.reload();
    return true;
  },
  onLost(lost) {
    message.textContent = lost ? page.dataset.retry : "";
  },
  onRefused(status, error) {
    message.textContent = error.code === "not-signed-in" ? page.dataset.signedOut : (error.message ?? "");
  },
});
