// Keeps a page up to date: waits for /events, fetches the page again, replaces the parts marked data-live.
"use strict";
(() => {
  const live = document.body.hasAttribute("data-live-page");
  const linkState = document.getElementById("link-state");
  const RETRY_MS = 5000;

  // Copy buttons, for text that is to be carried to a machine.
  for (const text of document.querySelectorAll("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      text.select();
      try {
        await navigator.clipboard.writeText(text.value);
        button.textContent = "Copied";
      } catch {
        button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    text.after(button);
  }

  const atEnd = (part) => part.scrollHeight - part.scrollTop - part.clientHeight < 8;
  const follow = (part) => { part.scrollTop = part.scrollHeight; };
  document.querySelectorAll("[data-follow]").forEach(follow);
  if (!live) return;

  // A part in which somebody types, or has typed, stays as it is.
  const inUse = (part) => {
    const active = document.activeElement;
    if (part.contains(active) && active.matches("input, textarea, select")) return true;
    return [...part.querySelectorAll("input, textarea")]
      .some((field) => field.type !== "hidden" && field.value !== field.defaultValue);
  };

  const replace = (part, fresh) => {
    const open = new Map([...part.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
    const focus = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const end = part.hasAttribute("data-follow") && atEnd(part);
    part.innerHTML = fresh.innerHTML;
    for (const [id, state] of open) {
      const one = document.getElementById(id);
      if (one) one.open = state;
    }
    if (focus) part.querySelector(`[href="${CSS.escape(focus)}"]`)?.focus();
    if (end) follow(part);
  };

  // What the server last said of each part: a form that was touched differs from it, but is not newer.
  const known = new Map();
  for (const part of document.querySelectorAll("[data-live]")) known.set(part.id, part.innerHTML);

  const show = (text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      if (!next || next.innerHTML === known.get(part.id) || inUse(part)) continue;
      known.set(part.id, next.innerHTML);
      replace(part, next);
    }
  };

  const say = (text) => { if (linkState.textContent !== text) linkState.textContent = text; };
  let fetching = false;
  let again = false;
  const update = async () => {
    if (fetching || document.hidden) { again = true; return; }
    fetching = true;
    again = false;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (answer.status === 401) { location.reload(); return; }
      if (answer.ok) { show(await answer.text()); say(""); }
    } catch {
      say("Server not reached, trying again");
    } finally {
      fetching = false;
    }
    if (again) update();
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden && again) update(); });

  const listen = () => {
    const events = new EventSource("/events");
    events.addEventListener("change", update);
    events.addEventListener("error", () => {
      say("Server not reached, trying again");
      if (events.readyState !== EventSource.CLOSED) return;
      // Refused: too many listeners, or the session is over. The page itself tells which.
      setTimeout(() => { update(); listen(); }, RETRY_MS);
    });
  };
  listen();
})();
